// Which photos are shown, and in which order.

const MEASURES = {
  entropy: {
    label: "Trimap entropy",
    hint: "How much the trimap network hesitated, in nats a pixel",
    of: (photo) => photo.entropy,
    text: (value) => value.toFixed(3),
  },
  unknown: {
    label: "Unknown area",
    hint: "Share of the photo that the trimap leaves to the matting model",
    of: (photo) => photo.shares?.[1] ?? null,
    text: (value) => `${(100 * value).toFixed(1)} %`,
  },
};
const SORTS = {
  order: { label: "Order of the run", key: (photo) => photo.order },
  name: { label: "Name", key: (photo) => photo.name },
  entropy: { label: "Most entropy first", key: (photo) => negative(MEASURES.entropy.of(photo)) },
  unknown: { label: "Most unknown first", key: (photo) => negative(MEASURES.unknown.of(photo)) },
  seconds: { label: "Slowest first", key: (photo) => negative(photo.seconds) },
};
const BINS = 28;
const STEPS = 200; // of a range's thumbs
const names = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

const wanted = { search: "", state: "all", sort: "order", reverse: false, ranges: {} };

function negative(value) {
  return value === null ? null : -value;
}

/** Whether a photo passes all filters. */
function passes(photo) {
  if (wanted.state === "failed" && photo.error === null) return false;
  if (wanted.state === "done" && photo.error !== null) return false;
  if (wanted.search && !photo.place.toLowerCase().includes(wanted.search)) return false;
  return Object.entries(wanted.ranges).every(([name, [low, high]]) => {
    const value = MEASURES[name].of(photo);
    return value !== null && value >= low && value <= high;
  });
}

/** The photos in the wanted order; those without the value that decides come last, either way round. */
function sorted() {
  const { key } = SORTS[wanted.sort];
  const sign = wanted.reverse ? -1 : 1;
  return [...photos].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === null || b === null) return (a === null) - (b === null) || one.order - other.order;
    const apart = typeof a === "string" ? names.compare(a, b) : a - b;
    return sign * apart || one.order - other.order;
  });
}

/** A histogram with two thumbs for each measure that differs between photos. Returns a function that resets them. */
function buildMeasures(changed) {
  const resets = Object.entries(MEASURES).map(([name, measure]) => {
    const values = photos.map(measure.of).filter((value) => value !== null);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    return values.length > 1 && most > least ? buildRange(name, measure, values, least, most, changed) : () => {};
  });
  return () => resets.forEach((reset) => reset());
}

function buildRange(name, measure, values, least, most, changed) {
  const counts = new Array(BINS).fill(0);
  for (const value of values) counts[Math.min(BINS - 1, Math.floor(((value - least) / (most - least)) * BINS))] += 1;
  const bars = counts.map((count) => {
    const bar = document.createElement("i");
    bar.style.blockSize = count ? `${8 + (92 * count) / Math.max(...counts)}%` : "0";
    return bar;
  });

  const group = document.createElement("fieldset");
  group.className = "field measure";
  group.title = measure.hint;
  const legend = document.createElement("legend");
  const reading = document.createElement("output");
  legend.append(Object.assign(document.createElement("span"), { textContent: measure.label }), reading);
  const histogram = document.createElement("div");
  histogram.className = "histogram";
  histogram.setAttribute("aria-hidden", "true");
  histogram.append(...bars);
  const thumbs = document.createElement("div");
  thumbs.className = "thumbs";
  const [low, high] = ["at least", "at most"].map((word, end) => {
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: 0, max: STEPS, value: end * STEPS, id: `${name}-${end ? "most" : "least"}` });
    input.setAttribute("aria-label", `${measure.label}, ${word}`);
    thumbs.append(input);
    return input;
  });
  group.append(legend, histogram, thumbs);
  $("measures").append(group);

  const at = (step) => least + ((most - least) * step) / STEPS;
  const show = () => {
    const [from, to] = [Number(low.value), Number(high.value)];
    reading.value = `${measure.text(at(from))} – ${measure.text(at(to))}`;
    low.setAttribute("aria-valuetext", measure.text(at(from)));
    high.setAttribute("aria-valuetext", measure.text(at(to)));
    bars.forEach((bar, k) => {
      const [left, right] = [(k * STEPS) / BINS, ((k + 1) * STEPS) / BINS];
      bar.classList.toggle("out", right <= from || left >= to);
    });
    if (from === 0 && to === STEPS) delete wanted.ranges[name];
    else wanted.ranges[name] = [from ? at(from) : least, to < STEPS ? at(to) : most]; // the ends exactly
  };
  low.addEventListener("input", () => {
    low.value = Math.min(low.value, high.value);
    show();
    changed();
  });
  high.addEventListener("input", () => {
    high.value = Math.max(low.value, high.value);
    show();
    changed();
  });
  show();
  return () => {
    [low.value, high.value] = [0, STEPS];
    show();
  };
}
