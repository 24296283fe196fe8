"use strict";
/* One global object, `coterie`, is all that the parts of the page share, and all that another script may build on.

   State, which only the functions below change; whoever needs to know is called back:
     pictures   array in page order (by kind, the most typical first): {id, name, kind, confidence (0..1), second, likely (of second, 0..1),
                x, y (on the map, 0..1), near: ids of the nearest, twins: number of its group of near-duplicates or -1, original: url or ""};
                kind -1: unsure
     by         Map of id -> picture
     kinds      Map of number -> {number, name, colour, size}; -1 is there when a picture is unsure
     selection  Set of ids;  shown: ids that pass the filter, in the order of the grid;  kind: the number that is open, or null for all

   Functions:
     show(kind)              opens one kind in full (null: all)          filter()        applies the form #filter again
     select(ids, how)        how: "only" | "add" | "take" | "toggle"     open(id)        the large view;  close() ends it
     refresh(labels, names)  labels: Map or [[id, kind]] of pictures that moved, names: Map or [[number, name]]; redraws what changed
     image(id)               promise of the address of its thumbnail     csv(ids)        the text that "Save" saves
     say(text)               a line that is shown for a moment and read aloud

   Hooks, arrays of functions that a script pushes to:
     onSelect  (selection)   onOpen  (picture, element: an empty place in the large view)   onShow  (kind)
     onKey     (event) -> true when it was dealt with; asked before our own keys, never while something is typed
   Places for more buttons: #actions (in the bar of the selection), #kind-actions (in the head of the open kind). */
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);
  const imageOf = (id) => one(`[data-image-id="${id}"] img`);

  // The map: a cluster under the pointer stands out, a point shows its picture.
  const groups = all("[data-map]"), peek = one("#peek");
  const highlight = (cluster) => groups.forEach((g) => g.classList.toggle("dim", cluster !== null && g.dataset.map !== cluster));
  all("[data-legend]").forEach((row) => {
    row.addEventListener("pointerenter", () => highlight(row.dataset.legend));
    row.addEventListener("pointerleave", () => highlight(null));
  });
  const map = one(".map");
  map.addEventListener("pointermove", (event) => {
    const point = event.target.closest("circle");
    peek.hidden = !point;
    highlight(point ? point.parentNode.dataset.map : null);
    if (!point) return;
    const image = imageOf(point.dataset.point);
    peek.replaceChildren(...(image ? [image.cloneNode()] : []), point.textContent);
    const { width, height } = peek.getBoundingClientRect();
    peek.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8)) + "px";
    peek.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 8)) + "px";
  });
  map.addEventListener("pointerleave", () => { peek.hidden = true; highlight(null); });

  // Some pictures of this page are shown again, so that their bytes are in it once.
  all("[data-copy]").forEach((figure) => {
    const image = imageOf(figure.dataset.copy);
    if (image) figure.prepend(image.cloneNode());
  });
  all("#neighbours, #attention, #rounds").forEach((section) => { section.hidden = false; });

  // The filter: by cluster, by confidence, by name.
  const form = one("#filter"), sections = all("[data-section]"), { cluster, confidence, text } = form.elements;
  const filter = () => {
    form.querySelector("output").textContent = confidence.value + " %";
    const words = text.value.trim().toLowerCase();
    let shown = 0;
    for (const section of sections) {
      const here = !cluster.value || section.dataset.section === cluster.value;
      for (const group of all(".group", section)) {
        let left = 0;
        for (const figure of all("figure", group)) {
          const fits = here && figure.dataset.confidence * 100 <= +confidence.value + 0.5 && figure.title.toLowerCase().includes(words);
          figure.hidden = !fits;
          left += fits;
        }
        group.hidden = !left;
        shown += left;
      }
      section.hidden = !all(".group", section).some((group) => !group.hidden);
    }
    one("#nothing").hidden = shown > 0 || !sections.length;
  };
  form.hidden = sections.length === 0;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());

  // A picture, tapped, comes nearer and tells its name.
  const viewer = one("#viewer"), [near, words] = viewer.children;
  document.addEventListener("click", (event) => {
    const figure = event.target.closest("figure");
    if (!figure || event.target.closest("a")) return;
    const image = figure.querySelector("img");
    near.src = image.src;
    near.className = image.className;
    near.alt = image.alt;
    words.textContent = figure.title;
    viewer.showModal();
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer || event.target.closest("button")) viewer.close(); });
})();
