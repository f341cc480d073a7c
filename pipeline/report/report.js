"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const parsed = (script) => JSON.parse(script.textContent);
const number = (count) => count.toLocaleString("en-US");

function element(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function shape(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

// The data: a light index parsed once, and chunks of samples parsed when a page shows one of them.

const indexes = all("script.index").map(parsed);
const PAGE = indexes.length ? indexes[0].length : 1;
const index = indexes.flat().map(([text, subjects, bucket, heads]) => ({
  text: text.toLowerCase(),
  subjects: String(subjects),
  bucket,
  heads,
}));
const chunks = all("script.chunk");
const meanings = parsed(document.getElementById("meanings"));
const cache = new Map();

function sampleAt(position) {
  const chunk = Math.floor(position / PAGE);
  if (!cache.has(chunk)) {
    if (cache.size >= PAGE) cache.delete(cache.keys().next().value);
    cache.set(chunk, parsed(chunks[chunk]));
  }
  return cache.get(chunk)[position % PAGE];
}

function matches(wanted) {
  const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
  const head = wanted.head.trim().toLowerCase();
  const isWhole = index.some((entry) => entry.heads.includes(head));
  const names = isWhole ? (name) => name === head : (name) => name.startsWith(head);
  const fits = (entry) =>
    (!wanted.subjects || entry.subjects === wanted.subjects) &&
    (!wanted.bucket || entry.bucket === wanted.bucket) &&
    (!head || entry.heads.some(names)) &&
    words.every((word) => entry.text.includes(word));
  return index.flatMap((entry, position) => (fits(entry) ? [position] : []));
}

// One sample: the picture with its layers, the sentence, the facts.

const tone = (member) => `tone${Number(member.replace(/\D/g, "")) % 6}`;

function pictures(sample) {
  const found = new Map([["image", { src: sample.image.src, label: "the whole picture" }]]);
  sample.subjects.forEach((subject, i) =>
    found.set(`subject${i}`, { src: subject.crop?.src, label: subject.phrase, note: noteOf(subject) }),
  );
  for (const part of sample.parts)
    found.set(part.member, { src: part.crop?.src, label: part.label, note: noteOf(part) });
  for (const { kind, picture } of sample.controls) found.set(kind, { src: picture.src, label: kind, covers: true });
  return found;
}

function noteOf({ score, crop }) {
  return [score !== null && score.toFixed(2), crop && size(crop)].filter(Boolean).join(" · ");
}

function layer(sample, subject, member) {
  const { width, height } = sample.image;
  const group = shape("g", { class: `layer ${tone(member)}`, "data-member": member });
  const rectangle = ([x0, y0, x1, y1]) => ({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 });
  const hole = subject.outline || (subject.box && boxPath(subject.box));
  if (hole) group.append(shape("path", { class: "shade", d: `M0 0H${width}V${height}H0z${hole}` }));
  if (subject.outline) group.append(shape("path", { class: "mask", d: subject.outline }));
  if (subject.box) group.append(shape("rect", { class: "box", ...rectangle(subject.box) }));
  if (subject.head_box) group.append(shape("rect", { class: "box head", ...rectangle(subject.head_box) }));
  return group;
}

const boxPath = ([x0, y0, x1, y1]) => `M${x0} ${y0}H${x1}V${y1}H${x0}z`;

function target(sample, known) {
  const { width, height, src } = sample.image;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  sample.subjects.forEach((subject, i) => svg.append(layer(sample, subject, `subject${i}`)));
  for (const part of sample.parts) svg.append(layer(sample, part, part.member));
  const covers = [...known].filter(([, picture]) => picture.covers);
  return element(
    "div",
    { className: "target" },
    element("img", { src, alt: sample.caption, width, height }),
    ...covers.map(([member, picture]) => {
      const image = element("img", { className: "layer cover", src: picture.src, alt: "" });
      image.dataset.member = member;
      return image;
    }),
    svg,
    element("p", { className: "note" }),
  );
}

function reference(member, known, show) {
  const { src, label, covers } = known.get(member) ?? { label: member };
  const button = element(
    "button",
    { type: "button", className: `reference ${covers ? "control" : tone(member)}` },
    src ? element("img", { src, alt: "" }) : element("span", { className: "blank" }, "no crop"),
    element("span", { className: "tip", dir: "auto" }, label),
  );
  button.setAttribute("aria-label", `${label}: show where it is`);
  button.setAttribute("aria-pressed", "false");
  button.dataset.member = member;
  for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => show.point(member));
  for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => show.point(null));
  button.addEventListener("click", () => show.pin(member));
  return button;
}

function sentence(sample, known, show) {
  const line = element("p", { className: "prompt", dir: "auto" });
  const beside = element("p", { className: "beside" });
  let before = null;
  for (const segment of sample.prompt) {
    if ("text" in segment) {
      line.append(...afterPicture(segment.text, before));
      before = null;
      continue;
    }
    const { image: member, phrase, insertion } = segment;
    const picture = reference(member, known, show);
    if (insertion === "side") {
      beside.append(element("span", {}, picture, element("bdi", {}, phrase || member)));
    } else if (insertion === "feature") {
      line.append(element("span", { className: `feature ${tone(member)}` }, picture, phrase));
    } else {
      line.append(picture);
      before = insertion === "before" ? segment : null;
    }
  }
  return beside.hasChildNodes() ? [line, beside] : [line];
}

// The words a picture stands before are underlined, so that the eye joins the two.
function afterPicture(text, before) {
  if (!before?.phrase || !text.startsWith(before.phrase)) return [text];
  const words = element("span", { className: `words ${tone(before.image)}` }, before.phrase);
  return [" ", words, text.slice(before.phrase.length)];
}

function layersOf(card) {
  let pinned = null;
  const display = (member) => {
    const { label, note } = card.known.get(member) ?? {};
    for (const node of all(".layer", card.root)) node.classList.toggle("shown", node.dataset.member === member);
    for (const node of all(".reference", card.root)) {
      node.classList.toggle("active", node.dataset.member === member);
      node.setAttribute("aria-pressed", String(node.dataset.member === pinned));
    }
    card.root.querySelector(".note").textContent = label ? [label, note].filter(Boolean).join(" · ") : "";
  };
  return {
    point: (member) => display(member ?? pinned),
    pin: (member) => {
      pinned = pinned === member ? null : member;
      display(pinned);
    },
  };
}

function facts(pairs) {
  const rows = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return element(
    "dl",
    { className: "settings" },
    ...rows.map(([name, value]) => {
      const told = element("dd", { dir: "auto" }, ...[value].flat());
      return element("div", {}, element("dt", {}, name), told);
    }),
  );
}

function link(url) {
  if (!url || !/^https?:\/\//i.test(url)) return url;
  return element("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, url);
}

function details(sample) {
  const key = element("span", { className: "key" }, sample.key);
  const root = element("details", {}, element("summary", {}, "Details", key));
  root.addEventListener("toggle", () => root.append(facts(factsOf(sample))), { once: true });
  return root;
}

function factsOf(sample) {
  const code = (text) => text && element("code", {}, text);
  return [
    ["prompt", sample.rendered],
    ["caption", sample.caption],
    ["alt text", sample.alt_text === sample.caption ? null : sample.alt_text],
    ...sample.subjects.map((subject, i) => [`subject${i}`, factsOfSubject(subject)]),
    ...sample.dropped.map((lost) => ["no subject", [`${lost.phrase}: `, ...prose(meaningOf(lost))]]),
    ...Object.entries(sample.scores).map(([name, score]) => [name, score?.toFixed(3)]),
    ["image", `${size(sample.image)}, bucket ${sample.bucket}`],
    ["original", size(sample.original)],
    ["sha256", code(sample.sha256)],
    ["url", link(sample.url)],
    ["source", `${sample.source}, row ${sample.row}`],
    ["source id", sample.source_id],
    ["shard", code(`shards/${sample.shard}.tar`)],
    ["key", code(sample.key)],
  ];
}

const size = ({ width, height }) => (width && height ? `${width} × ${height} px` : null);

function factsOfSubject({ phrase, head, score, box, crop }) {
  const parts = [
    `${phrase} (${head})`,
    score !== null && `score ${score.toFixed(3)}`,
    box && `box ${box.join(", ")}`,
    crop && `crop ${size(crop)}`,
  ];
  return parts.filter(Boolean).join(" · ");
}

const meaningOf = ({ stage, reason }) => meanings[`${stage} ${reason}`] || `${stage} ${reason}`;
const prose = (text) => text.split("`").map((part, i) => (i % 2 ? element("code", {}, part) : part));

function lostPhrases(sample) {
  if (!sample.dropped.length) return null;
  const items = sample.dropped.map(({ phrase, stage, reason }) =>
    element(
      "li",
      { title: meaningOf({ stage, reason }).replaceAll("`", "") },
      element("s", { dir: "auto" }, phrase),
      element("span", {}, ` ${stage}: ${reason}`),
    ),
  );
  return element("ul", { className: "lost" }, ...items);
}

function card(sample) {
  const root = element("article", { className: "sample" });
  const known = pictures(sample);
  const show = layersOf({ root, known });
  const covers = [...known].filter(([, picture]) => picture.covers).map(([member]) => member);
  const used = new Set(sample.prompt.map((segment) => segment.image));
  const parts = [...sample.subjects.map((_, i) => `subject${i}`), ...sample.parts.map((part) => part.member)];
  const unused = parts.filter((member) => !used.has(member));
  const buttons = [...unused, ...covers].map((member) => reference(member, known, show));
  root.append(
    element(
      "div",
      { className: "pictures" },
      target(sample, known),
      buttons.length ? element("div", { className: "more" }, ...buttons) : null,
    ),
    element(
      "div",
      { className: "words" },
      ...sentence(sample, known, show),
      lostPhrases(sample),
    ),
    details(sample),
  );
  return root;
}

// Filter and pages. Only one page is in the document.

const form = document.getElementById("filter");
let found = [];
let first = 0;

function turnTo(position) {
  first = Math.max(0, Math.min(position, lastPage()));
  const shown = found.slice(first, first + PAGE).map(sampleAt).map(card);
  document.getElementById("page").replaceChildren(...(shown.length ? shown : [noMatch()]));
  all(".pager").forEach(tellPlace);
}

const lastPage = () => Math.max(0, Math.ceil(found.length / PAGE) - 1) * PAGE;

function noMatch() {
  const clear = element("button", { type: "reset" }, "Clear the filter");
  clear.setAttribute("form", "filter");
  return element("p", { className: "empty" }, "No sample matches. ", clear);
}

function fillPager(pager) {
  const turn = (label, name, position) => {
    const button = element("button", { type: "button", title: name, ariaLabel: name }, label);
    button.addEventListener("click", () => {
      turnTo(position());
      if (pager.previousElementSibling.id === "page") document.getElementById("samples").scrollIntoView();
    });
    return button;
  };
  pager.append(
    turn("«", "First page", () => 0),
    turn("‹", "Previous page", () => first - PAGE),
    element("output"),
    turn("›", "Next page", () => first + PAGE),
    turn("»", "Last page", lastPage),
  );
}

function tellPlace(pager) {
  const last = Math.min(first + PAGE, found.length);
  const range = found.length ? `${number(first + 1)}–${number(last)} of ${number(found.length)}` : "0";
  const filtered = found.length === index.length ? "" : ` matching, of ${number(index.length)}`;
  pager.querySelector("output").textContent = range + filtered;
  all("button", pager).forEach((button, place) => {
    button.disabled = place < 2 ? first === 0 : last >= found.length;
  });
}

function filter() {
  found = matches(Object.fromEntries(new FormData(form)));
  turnTo(0);
}

function fillChoices() {
  const ascending = (a, b) => a - b;
  for (const name of ["subjects", "bucket"]) {
    const values = [...new Set(index.map((entry) => entry[name]))].sort(ascending);
    form.elements[name].append(...values.map((value) => new Option(value, value)));
  }
  const heads = [...new Set(index.flatMap((entry) => entry.heads))].sort();
  document.getElementById("heads").append(...heads.map((head) => new Option(head, head)));
}

if (form) {
  fillChoices();
  all(".pager").forEach(fillPager);
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  filter();
}

for (const button of all("[data-filter]")) {
  button.addEventListener("click", () => {
    form.reset();
    form.elements[button.dataset.filter].value = button.value;
    setTimeout(filter);
    document.getElementById("samples").scrollIntoView();
  });
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = getComputedStyle(root).colorScheme === "dark" ||
    (getComputedStyle(root).colorScheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  root.style.colorScheme = isDark ? "light" : "dark";
});
