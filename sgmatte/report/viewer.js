// One photo, large: with all that is known of it, and its neighbours an arrow key away.

const LINKS = { photo: "Photo", enhanced: "Enhanced", cutout: "Cut-out", alpha: "Alpha", trimap: "Trimap" };
const PAUSE = 120; // milliseconds on a photo until its whole files are decoded: leafing through stays quick

/** Builds the viewer: `shown()` are the photos to leaf through, `view()` what is compared; `left` is called at its end. */
function buildViewer(shown, view, left) {
  const dialog = $("viewer");
  const stage = $("viewer-stage");
  let current = null;
  let timer = 0;
  let pan = null;

  const box = comparison((event, move) => {
    if (!stage.classList.contains("zoomed")) move(event);
  });
  stage.append(box);

  function show(photo) {
    current = photo;
    $("viewer-name").textContent = photo.name;
    $("viewer-place").textContent = photo.place === photo.name ? "" : photo.place;
    const list = shown();
    const at = list.indexOf(photo);
    $("viewer-count").textContent = `${at + 1} of ${list.length}`;
    $("previous").disabled = at <= 0;
    $("next").disabled = at < 0 || at >= list.length - 1;
    $("zoom").disabled = !photo.pictures.photo;
    fill(box, photo, view());
    box.style.setProperty("--pixels", `${naturalWidth(photo)}px`);
    facts(photo);
    clearTimeout(timer);
    timer = setTimeout(() => {
      fill(box, photo, view(), true);
      for (const near of [list[at + 1], list[at - 1]]) {
        for (const kind of ["photo", view()]) if (near?.pictures[kind]) new Image().src = near.pictures[kind].small;
      }
    }, PAUSE);
  }

  function open(photo) {
    show(photo);
    if (!dialog.open) {
      dialog.showModal();
      dialog.focus();
    }
  }

  function step(by) {
    const list = shown();
    const next = list[list.indexOf(current) + by];
    if (next) show(next);
  }

  function zoom(on = !stage.classList.contains("zoomed")) {
    stage.classList.toggle("zoomed", on);
    $("zoom").setAttribute("aria-pressed", on);
    if (on) stage.scrollTo((stage.scrollWidth - stage.clientWidth) / 2, (stage.scrollHeight - stage.clientHeight) / 2);
  }

  /** Move the slider by so many hundredths. */
  function slide(by) {
    const range = box.querySelector("input");
    range.value = Number(range.value) + by;
    range.dispatchEvent(new Event("input"));
  }

  // Pixel for pixel a photo is larger than the screen: then a drag moves the photo, and the handle alone the slider.
  stage.addEventListener(
    "pointerdown",
    (event) => {
      const handle = event.target.classList.contains("handle");
      if (!stage.classList.contains("zoomed") || handle || event.button !== 0 || event.pointerType !== "mouse") return;
      event.stopPropagation();
      stage.setPointerCapture(event.pointerId);
      pan = [event.clientX + stage.scrollLeft, event.clientY + stage.scrollTop];
    },
    { capture: true },
  );
  stage.addEventListener("pointermove", (event) => {
    if (pan) stage.scrollTo(pan[0] - event.clientX, pan[1] - event.clientY);
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => (pan = null));

  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("zoom").addEventListener("click", () => zoom());
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });
  dialog.addEventListener("close", () => {
    clearTimeout(timer);
    zoom(false);
    left(current);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!arrow) return;
    const onRange = event.target.matches("input[type=range]");
    if (event.shiftKey) slide(5 * arrow);
    else if (onRange) return; // the slider's own keys
    else step(arrow);
    event.preventDefault();
  });
  return { open, step, zoom, refresh: () => dialog.open && show(current), isOpen: () => dialog.open };
}

/** Width at which a photo is shown pixel for pixel. */
function naturalWidth(photo) {
  return (photo.pixels?.[0] ?? 0) / window.devicePixelRatio;
}

/** What is known of a photo, in the viewer's footer. */
function facts(photo) {
  const list = document.createElement("dl");
  const add = (term, value) => {
    const pair = document.createElement("div");
    pair.append(
      Object.assign(document.createElement("dt"), { textContent: term }),
      Object.assign(document.createElement("dd"), { textContent: value, className: "figure" }),
    );
    list.append(pair);
  };
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  if (photo.pixels) add("Size", `${photo.pixels[0]} × ${photo.pixels[1]}`);
  if (photo.shares) ["Background", "Unknown", "Foreground"].forEach((name, k) => add(name, percent(photo.shares[k])));
  if (photo.entropy !== null) add("Trimap entropy", photo.entropy.toFixed(3));
  if (photo.change) add("Before and after enhancing", photo.change.map((value) => value.toFixed(3)).join(" → "));
  if (photo.seconds !== null) add("Time", `${photo.seconds.toFixed(1)} s`);

  const links = document.createElement("p");
  links.className = "links";
  for (const [kind, label] of Object.entries(LINKS)) {
    if (!photo.links[kind]) continue;
    const link = Object.assign(document.createElement("a"), { href: photo.links[kind], textContent: label });
    Object.assign(link, { target: "_blank", rel: "noopener" });
    links.append(link);
  }
  const { cutout } = photo.pictures;
  const made = cutout && !cutout.full ? "the cut-out was made for this page, and is small: sgmatte writes it whole with --cutout" : null;
  const told = [photo.error, ...photo.notes, made].filter(Boolean).map((text, k) =>
    Object.assign(document.createElement("p"), { textContent: text, className: photo.error && k === 0 ? "error" : "note" }),
  );
  $("facts").replaceChildren(...told, list, links);
}
