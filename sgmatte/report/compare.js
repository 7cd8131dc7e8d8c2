// The slider: the photo to its left, what was made of it to its right. A range input is what keys and screen readers use.

const VIEWS = {
  cutout: { label: "Cut-out", of: "cut-out" },
  alpha: { label: "Alpha", of: "alpha" },
  trimap: { label: "Trimap", of: "trimap" },
  enhanced: { label: "Enhanced", of: "enhanced photo" },
};
const STILL = 4; // pixels that a pointer may move and still mean a click

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const photos = data.photos.map((photo, order) => ({ ...photo, order }));

/** A comparison, ready to be put into the page. `clicked` is called for a click or a tap that moved nothing. */
function comparison(clicked) {
  const box = $("comparison").content.firstElementChild.cloneNode(true);
  const range = box.querySelector("input");
  const place = () => {
    box.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % photo`);
  };
  const move = (event) => {
    const { left, width } = box.getBoundingClientRect();
    range.value = Math.round(((event.clientX - left) / width) * 100);
    place();
  };
  let start = null;
  let moved = false;
  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    start = event.clientX;
    moved = false;
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => {
    if (start === null || (!moved && Math.abs(event.clientX - start) < STILL)) return;
    moved = true;
    move(event);
  });
  box.addEventListener("pointerup", (event) => {
    if (start !== null && !moved) clicked(event, move);
    start = null;
  });
  box.addEventListener("pointercancel", () => (start = null));
  range.addEventListener("input", place);
  place();
  return box;
}

/** Fill a comparison with a photo and one of its views; `full` asks for the files themselves where they can be shown. */
function fill(box, photo, view, full = false) {
  const [before, after] = box.querySelectorAll("img");
  const shown = photo.pictures[view];
  const [width, height] = photo.pixels ?? [4, 5];
  box.style.setProperty("--ratio", width / height);
  box.classList.toggle("alone", !shown);
  box.classList.toggle("blank", !photo.pictures.photo);
  box.classList.toggle("on-backdrop", view === "cutout");
  const range = box.querySelector("input");
  range.hidden = !shown;
  range.setAttribute("aria-label", `How much of the photo is shown before the ${VIEWS[view]?.of}: ${photo.name}`);
  picture(before, photo.pictures.photo, `Photo ${photo.name}`, full);
  picture(after, shown, `${VIEWS[view]?.label} of ${photo.name}`, full);
}

/** Show a picture in `img`: the small one at once, the whole file as soon as it is there, if it ever is. */
function picture(img, shown, alt, full) {
  const small = shown?.small ?? "";
  img.alt = shown ? alt : "";
  img.hidden = !shown;
  img.dataset.wanted = small;
  if (!shown) img.removeAttribute("src");
  if (!shown || img.getAttribute("src") === (shown.full ?? small)) return; // there already, and as good as it gets
  if (img.getAttribute("src") !== small) img.src = small;
  if (!full || !shown.full) return;
  const file = new Image();
  file.src = shown.full;
  file.decode().then(
    () => {
      if (img.dataset.wanted === small) img.src = shown.full;
    },
    () => {}, // moved or sent without its files: the small one stays
  );
}
