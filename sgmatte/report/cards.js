// Photos in the grid, and how keys walk from one to the next.

const [TALLEST, WIDEST] = [0.56, 2.4]; // proportions of a card; a photo beyond them leaves a part of its card empty

/** A photo in the grid; `open` shows it large. */
function card(photo, open) {
  const item = $("card").content.firstElementChild.cloneNode(true);
  const [frame, name, bar, figures] = item.children;
  const box = comparison(() => open(photo));
  box.querySelectorAll("img").forEach((img) => (img.loading = "lazy"));
  const [width, height] = photo.pixels ?? [4, 5];
  item.style.setProperty("--ratio", Math.min(WIDEST, Math.max(TALLEST, width / height)));
  frame.classList.toggle("tall", width / height < TALLEST);
  frame.append(box);
  name.textContent = photo.name;
  name.title = photo.place;
  name.setAttribute("aria-label", `Open ${photo.name}`);
  name.addEventListener("click", () => open(photo));
  item.addEventListener("focusin", () => rove(photo));
  box.querySelector("input").tabIndex = -1;
  const told = [];
  if (photo.error !== null) {
    item.classList.add("failed");
    told.push(photo.error);
  }
  if (photo.entropy !== null) told.push(`${photo.entropy.toFixed(3)} nats`);
  if (photo.shares) {
    told.push(`${(100 * photo.shares[1]).toFixed(1)} % unknown`);
    for (const share of photo.shares) {
      const part = document.createElement("i");
      part.style.flexGrow = share;
      bar.append(part);
    }
  }
  if (photo.error === null && photo.notes.length) told.push("note");
  figures.textContent = told.join(" · ");
  if (photo.error !== null) figures.title = photo.error;
  return item;
}

/** One card takes part in the order of the tab key: the last one that had the focus. */
function rove(photo) {
  for (const [one, index] of [
    [current, -1],
    [photo, 0],
  ]) {
    const item = one && cards.get(one);
    if (item) for (const part of [item.querySelector(".name"), item.querySelector("input")]) part.tabIndex = index;
  }
  current = photo;
}

function focusCard(photo) {
  const item = cards.get(photo);
  if (!item || item.hidden) return;
  item.scrollIntoView({ block: "nearest" });
  item.querySelector(".name").focus({ preventScroll: true });
}

/** The card in the row above or below whose middle is nearest. */
function inNextRow(photo, by) {
  const middle = (item) => item.offsetLeft + item.offsetWidth / 2;
  const from = cards.get(photo);
  const rest = by > 0 ? visible.slice(visible.indexOf(photo) + 1) : visible.slice(0, visible.indexOf(photo)).reverse();
  const row = rest.find((one) => cards.get(one).offsetTop !== from.offsetTop);
  if (!row) return photo;
  const top = cards.get(row).offsetTop;
  return rest
    .filter((one) => cards.get(one).offsetTop === top)
    .reduce((best, one) =>
      Math.abs(middle(cards.get(one)) - middle(from)) < Math.abs(middle(cards.get(best)) - middle(from)) ? one : best,
    );
}
