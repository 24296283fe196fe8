"use strict";
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
