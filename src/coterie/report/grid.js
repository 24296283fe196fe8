/* One kind in full, or what passes the filter: a grid of which only the rows near the window are in the page. */
{
  const { pictures, by, kinds, selection } = coterie;
  const grid = document.querySelector("#grid"), store = document.querySelector("#store"), form = document.querySelector("#filter");
  const GAP = 8, CAPTION = 20, AROUND = 3; // px, px, rows above and below the window
  const DOUBTFUL = 0.2; // lead over the second kind, below which a picture lies between the two
  const here = new Map(); // id -> its element, of those in the page
  let columns = 1, side = 100, focus = 0, asked = false, drawn = [0, 0]; // drawn: the first that is in the page, and the one after the last

  const ORDERS = {
    "": null,
    doubt: (a, b) => a.confidence - a.likely - (b.confidence - b.likely) || a.row - b.row,
    far: (a, b) => a.close - b.close || a.row - b.row,
    name: (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.row - b.row),
  };
  const ONLY = {
    "": () => true,
    unsure: ({ kind }) => kind < 0,
    doubtful: ({ kind, confidence, likely }) => kind < 0 || confidence - likely < DOUBTFUL,
    twins: ({ twins }) => twins >= 0,
    selected: ({ id }) => selection.has(id),
  };
  coterie.filter = () => {
    const { confidence, text, only, order } = form.elements, words = text.value.trim().toLowerCase(), most = confidence.value / 100;
    form.querySelector("output").textContent = `${confidence.value}\u202f%`;
    const fits = (picture) =>
      (most >= 1 || picture.confidence <= most) && ONLY[only.value](picture) && (!words || picture.name.toLowerCase().includes(words));
    const filtered = most < 1 || only.value || words, fitting = filtered ? pictures.filter(fits) : pictures;
    coterie.lit = filtered ? new Set(fitting.map(({ id }) => id)) : null; // on the map, whatever their kind
    const found = fitting.filter((picture) => coterie.kind === null || picture.kind === coterie.kind);
    if (only.value === "twins") found.sort((a, b) => a.twins - b.twins);
    if (ORDERS[order.value]) found.sort(ORDERS[order.value]);
    coterie.shown = found.map(({ id }) => id);
    document.querySelector("#nothing").hidden = found.length > 0;
    focus = 0;
    measure();
    coterie.drawMap?.();
  };

  const measure = () => {
    const width = grid.clientWidth, wanted = width < 500 ? 84 : 112;
    columns = Math.max(3, Math.floor((width + GAP) / (wanted + GAP)));
    side = (width - GAP * (columns - 1)) / columns;
    grid.style.height = `${Math.ceil(coterie.shown.length / columns) * (side + CAPTION + GAP)}px`;
    coterie.drawn();
  };
  const rows = () => {
    const top = -grid.getBoundingClientRect().top, height = side + CAPTION + GAP;
    return [Math.floor(top / height) - AROUND, Math.ceil((top + innerHeight) / height) + AROUND];
  };
  coterie.drawn = (scrolled = false) => { // the window of the grid, as the state has it; scrolled: nothing else is new
    const [low, high] = rows(), { shown } = coterie;
    const start = Math.max(0, low * columns), end = Math.min(shown.length, Math.max(0, high * columns));
    if (scrolled && start === drawn[0] && end === drawn[1]) return;
    drawn = [start, end];
    const wanted = new Set(shown.slice(start, end));
    for (const [id, figure] of here) {
      if (wanted.has(id)) continue;
      here.delete(id);
      if (store) undress(figure); else figure.remove();
    }
    for (let i = start; i < end; i += 1) {
      const id = shown[i];
      let figure = here.get(id);
      if (figure && scrolled) continue;
      if (!figure) {
        figure = coterie.figure(id);
        here.set(id, figure);
        grid.append(figure);
      }
      dress(figure, by.get(id), i);
    }
    grid.classList.toggle("choosing", selection.size > 0);
  };
  const dress = (figure, picture, i) => {
    const row = Math.floor(i / columns), column = i % columns, chosen = selection.has(picture.id);
    figure.style.cssText = `width:${side}px;transform:translate(${column * (side + GAP)}px,${row * (side + CAPTION + GAP)}px);--k:${kinds.get(picture.kind).colour}`;
    figure.id = `picture-${picture.id}`;
    figure.dataset.index = i;
    figure.dataset.name = picture.name; // shown where the run keeps no thumbnail
    figure.setAttribute("role", "option");
    figure.setAttribute("aria-selected", chosen);
    figure.tabIndex = i === focus ? 0 : -1;
    figure.title = coterie.told(picture);
    if (!figure.querySelector("figcaption")) {
      figure.insertAdjacentHTML("beforeend", '<figcaption></figcaption><span class="tick" aria-hidden="true"></span>');
    }
    const doubt = picture.likely >= 0.05 && picture.second >= 0 ? ` or ${picture.second}` : "";
    const prototype = kinds.get(picture.kind).prototype === picture.id;
    figure.classList.toggle("prototype", prototype);
    figure.querySelector("figcaption").textContent =
      (prototype ? "prototype " : "") + (coterie.kind === null && picture.kind >= 0 ? `${picture.kind}: ` : "") + coterie.percent(picture.confidence) + doubt;
    coterie.onDress.forEach((call) => call(figure, picture));
  };
  const undress = (figure) => { // back to where the page keeps it
    figure.removeAttribute("style");
    for (const name of ["role", "aria-selected", "tabindex", "id"]) figure.removeAttribute(name);
    store.lastElementChild.append(figure);
  };

  const soon = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; coterie.drawn(true); });
  };
  addEventListener("scroll", soon, { passive: true });
  new ResizeObserver(measure).observe(grid);

  for (const name of ["input", "change"]) { // a list may tell of the second alone
    form.addEventListener(name, (event) => {
      if (event.target.name === "kind") coterie.show(event.target.value === "" ? null : +event.target.value);
      else coterie.filter();
    });
  }
  form.addEventListener("submit", (event) => event.preventDefault());

  // A click opens; on the corner, or while some are selected, it selects; with Shift up to here.
  grid.addEventListener("click", (event) => {
    const figure = event.target.closest("figure");
    if (!figure) return;
    const id = +figure.dataset.imageId;
    focus = +figure.dataset.index;
    if (event.shiftKey) coterie.upTo(id);
    else if (event.ctrlKey || event.metaKey || selection.size || event.target.closest(".tick")) coterie.select([id], "toggle");
    else coterie.open(id);
    figure.focus({ preventScroll: true });
  });
  grid.addEventListener("dblclick", (event) => {
    const figure = event.target.closest("figure");
    if (figure) coterie.open(+figure.dataset.imageId);
  });
  grid.addEventListener("mousedown", (event) => { if (event.shiftKey) event.preventDefault(); }); // no text is marked

  // Where the keys are: the picture at `to` comes into the window and gets the focus.
  coterie.focus = (to, select = false) => {
    const { shown } = coterie;
    if (!shown.length) return;
    if (select) coterie.select([shown[focus]], "add");
    focus = Math.max(0, Math.min(shown.length - 1, to));
    const height = side + CAPTION + GAP, top = grid.getBoundingClientRect().top + Math.floor(focus / columns) * height;
    const above = getComputedStyle(form).position === "sticky" ? form.offsetHeight + GAP : GAP, below = innerHeight - height - 60;
    if (top < above) scrollBy({ top: top - above, behavior: "instant" });
    else if (top > below) scrollBy({ top: top - below, behavior: "instant" });
    coterie.drawn();
    here.get(shown[focus])?.focus({ preventScroll: true });
    if (select) coterie.select([shown[focus]], "add");
  };
  coterie.place = () => ({ focus, columns });
}
