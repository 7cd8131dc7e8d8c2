"""Portrait enhancement and matting. Importing this package is cheap: torch is loaded by the modules that compute."""

__version__ = "0.1.0"
