"""`sgmatte doctor`: what this machine offers and what sgmatte makes of it."""

from __future__ import annotations

from sgmatte.cli import options
from sgmatte.cli.messages import Screen


def doctor(json: options.Json = False) -> None:
    """Device, threads, compilers, compiled operators and their self-check, weights; builds the operators if need be.

    Example: sgmatte doctor
    """
    from sgmatte.health import health

    found, screen = health(), Screen(json=json)
    screen.line(f"sgmatte {found['sgmatte']}, Python {found['python']}, torch {found['torch']}")
    screen.line(f"device: {found['device']['name']} ({found['device']['reason']})")
    screen.line(f"threads: {found['threads']} on {found['cores']} cores, bfloat16 {found['bfloat16']}")
    for tool, told in found["tools"].items():
        screen.line(f"{tool}: {told or 'not found'}")
    for kind, reader in found["readers"].items():
        screen.line(
            f"{kind} photos: {f'read by {reader}' if reader else 'cannot be read; reading one says what to install'}"
        )
    for device, state in found["operators"].items():
        screen.line(f"operators for {device}: {state['used']} ({state['reason']})")
        if state["library"]:
            checked = f", self-check at {state['self_check']:.0%} of its tolerance" if state["self_check"] else ""
            screen.line(f"    {state['library']}, ready in {state['seconds']:.1f} s{checked}")
    screen.line(f"cache: {found['cache']}")
    for name, state in found["weights"].items():
        screen.line(f"weight {name}: {state}")
    screen.result(found)
