// Folds of a large page are packed (packing.py). One is unpacked when it is opened or holds what is
// linked to; the others once there is time, so that they can be printed and searched.

const unfold = (fold) =>
  (fold.unfolding ??= (async () => {
    const packed = fold.querySelector(":scope > script");
    const content = make("template", { innerHTML: await unpacked(packed.textContent) });
    for (const part of all(":scope > :not(summary)", fold)) part.remove();
    fold.append(content.content);
    fold.removeAttribute("data-packed");
    fold.dispatchEvent(new Event("unfolded", { bubbles: true }));
  })());
const packedFolds = () => (canUnpack ? all("details[data-packed]") : []);
const foldAround = (anchor) =>
  packedFolds().find(({ dataset }) => dataset.packed.split(" ").includes(anchor));
const whenIdle = window.requestIdleCallback ?? ((act) => setTimeout(act, 200));
const unfoldRest = () => {
  const [next] = packedFolds();
  if (next) whenIdle(() => unfold(next).then(unfoldRest));
};
