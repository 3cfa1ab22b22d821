// The reader's place and choices in the address: #anchor?only=adagrad&x=seconds&y=log&seeds=each
// and, of learning curves, &part=test&metric=accuracy

const decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};
const readAddress = () => {
  const [, anchor, , query] = /^#?([^?]*)(\?(.*))?$/s.exec(location.hash);
  return { anchor: decoded(anchor), query: query === undefined ? null : new URLSearchParams(query) };
};
const choicesAsQuery = () => {
  const query = new URLSearchParams();
  if (chosen.left.size) {
    const shown = optimizers.filter(shows);
    for (const name of shown.length ? shown : [""]) query.append("only", name);
  }
  if (chosen.along) query.set("x", chosen.along);
  if (chosen.scale) query.set("y", chosen.scale);
  for (const name of ["part", "metric"]) if (chosen[name]) query.set(name, chosen[name]);
  if (chosen.seeds) query.set("seeds", "each");
  return String(query);
};
const hashOf = (anchor) => {
  const query = choicesAsQuery();
  return `#${encodeURIComponent(anchor)}${query ? `?${query}` : ""}`;
};
const writeAddress = (anchor = readAddress().anchor) => {
  const hash = hashOf(anchor);
  const plain = `${location.pathname}${location.search}`;
  try {
    history.replaceState(history.state, "", hash === "#" ? plain : hash);
  } catch {
    // A browser may refuse when this is done too often; the page works as well without.
  }
  for (const link of all("a.anchor")) link.hash = hashOf(link.dataset.anchor);
};
const takeChoices = (query) => {
  const only = query.getAll("only");
  const known = optimizers.filter((name) => only.includes(name));
  const named = known.length || only.includes("");
  chosen.left = new Set(named ? optimizers.filter((name) => !known.includes(name)) : []);
  const offered = (name, value) =>
    choices.querySelector(`select[name=${name}] option[value="${CSS.escape(value ?? "")}"]`);
  for (const [name, key] of [
    ["along", "x"],
    ["scale", "y"],
    ["part", "part"],
    ["metric", "metric"],
  ])
    chosen[name] = offered(name, query.get(key)) ? (query.get(key) ?? "") : "";
  chosen.seeds = query.has("seeds") && Boolean(choices.querySelector("[name=seeds]"));
};
// What is folded is opened for whoever is sent there. A browser finds the way by itself where the
// address has no choices and nothing is folded.
const jump = (anchor, alone) => {
  const packed = foldAround(anchor);
  if (packed) {
    unfold(packed).then(() => jump(anchor, true));
    return;
  }
  const target = anchor && document.getElementById(anchor);
  if (!target) return;
  let scrolls = alone;
  for (let folded = target.closest("details"); folded; ) {
    scrolls ||= !folded.open;
    folded.open = true;
    folded = folded.parentElement.closest("details");
  }
  if (!scrolls) return;
  const fixed = target.hasAttribute("tabindex");
  if (!fixed) {
    target.tabIndex = -1;
    target.addEventListener("blur", () => target.removeAttribute("tabindex"), { once: true });
  }
  target.focus({ preventScroll: true });
  target.scrollIntoView({ behavior: "instant" });
};
// An address with choices sets them all; one without leaves them, and has them added.
const followAddress = () => {
  const { anchor, query } = readAddress();
  if (query && choices) {
    takeChoices(query);
    apply();
  }
  writeAddress(anchor);
  jump(anchor, query !== null);
};

// The sign is the style sheet's, so that headings keep their text and their names.
const addAnchor = (element, id, title) => {
  const link = make("a", { className: "anchor", href: `#${id}`, ariaLabel: `Link to ${title}` });
  link.dataset.anchor = id;
  element.append(link);
};
const addAnchors = (root) => {
  for (const heading of all("main h2, main h3", root)) {
    const section = heading.closest("section");
    const isTitle = heading.id && section?.getAttribute("aria-labelledby") === heading.id;
    const id = isTitle ? section.id : heading.id;
    if (!id) continue;
    heading.ariaLabel = heading.textContent;
    addAnchor(heading, id, heading.textContent);
  }
  for (const figure of all("figure[id][data-title]", root))
    addAnchor(figure.querySelector("figcaption strong"), figure.id, figure.dataset.title);
};
