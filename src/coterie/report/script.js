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
     image(id)               promise of the address of its thumbnail     thumbnail(id)   a new element that shows it
     called(kind)            its number and name                         dot(kind)       a new element of its colour
     csv(ids)                the text that "Save" saves
     say(text)               a line that is shown for a moment and read aloud

   Hooks, arrays of functions that a script pushes to:
     onSelect  (selection)   onOpen  (picture, element: an empty place in the large view)   onShow  (kind)
     onDress   (figure, picture): it comes into the grid, or is other than it was there
     onKey     (event) -> true when it was dealt with; asked before our own keys, never while something is typed
   Places for more buttons: #actions (in the bar of the selection), #kind-actions (in the head of the open kind). */
window.coterie = {
  pictures: [], by: new Map(), kinds: new Map(), selection: new Set(), shown: [], lit: null, kind: null,
  sheets: [], onSelect: [], onOpen: [], onShow: [], onDress: [], onKey: [],
};
{
  const { pictures, by, kinds, selection } = coterie;
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const GOLDEN = 137.508; // degrees between the hues of kinds that the run did not have

  // What is known of each picture, from columns to one object each.
  coterie.table = (columns) => {
    for (const kind of columns.kinds) kinds.set(kind.number, { ...kind, size: 0 });
    const { base, id, twins } = columns;
    id.forEach((number, row) => {
      const name = columns.name[row];
      const picture = {
        id: number, row, name, kind: columns.kind[row], confidence: columns.confidence[row] / 1000, second: columns.second[row],
        likely: columns.likely[row] / 1000, close: columns.close[row] / 1000, x: columns.x[row] / 1e4, y: columns.y[row] / 1e4,
        near: columns.near[row], twins: twins[row] ?? -1, original: base && address(base, name),
      };
      pictures.push(picture);
      by.set(number, picture);
    });
    count();
    coterie.start();
  };
  const address = (base, path) =>
    (path.startsWith("/") ? "file://" : base) + path.split("/").map(encodeURIComponent).join("/");
  const count = () => {
    for (const kind of kinds.values()) Object.assign(kind, { size: 0, sum: 0 });
    for (const { kind, confidence } of pictures) {
      if (!kinds.has(kind)) kinds.set(kind, { number: kind, name: "", told: "", colour: `hsl(${(kind * GOLDEN) % 360} 55% 55%)`, size: 0, sum: 0 });
      const found = kinds.get(kind);
      found.size += 1;
      found.sum += confidence;
    }
  };

  // Words.
  coterie.percent = (share) => (share > 0.995 && share < 0.9995 ? "> 99" : Math.round(100 * share)) + "\u202f%";
  coterie.called = (number) => {
    const name = kinds.get(number)?.name;
    return (number < 0 ? "Unsure" : `Cluster ${number}`) + (name ? ` – ${name}` : "");
  };
  coterie.told = ({ name, kind, confidence }) => `${name} – ${coterie.called(kind)}, ${coterie.percent(confidence)}`;
  coterie.dot = (number) => {
    const dot = document.createElement("i");
    dot.className = "dot";
    dot.style.setProperty("--k", kinds.get(number)?.colour ?? "transparent");
    return dot;
  };
  coterie.listed = () => [...kinds.values()].filter((kind) => kind.size).sort((a, b) => (a.number < 0) - (b.number < 0) || a.number - b.number);
  let hush = 0;
  coterie.say = (text) => {
    const said = one("#said");
    said.textContent = text;
    clearTimeout(hush);
    hush = setTimeout(() => { said.textContent = ""; }, 4000);
  };

  // Thumbnails: those of a page in one file are in its #store, those of more pictures in sheets beside it, loaded when one is wanted.
  const figures = new Map(all("#store [data-image-id]").map((figure) => [+figure.dataset.imageId, figure]));
  const loaded = new Map(), waiting = new Map();
  const PER_SHEET = 200;
  coterie.sheet = (number, uris) => { loaded.set(number, uris); waiting.get(number)?.(uris); };
  const sheet = (number) => {
    if (loaded.has(number)) return loaded.get(number);
    const coming = new Promise((resolve) => {
      waiting.set(number, resolve);
      const script = document.createElement("script");
      script.src = coterie.sheets[number];
      script.onerror = () => { coterie.say("The pictures of this page lie in the folder beside it, which is not there."); resolve([]); };
      document.head.append(script);
    });
    loaded.set(number, coming);
    return coming;
  };
  coterie.image = async (id) => {
    if (!coterie.sheets.length) return one("img", figures.get(id))?.src ?? "";
    const { row } = by.get(id);
    return (await sheet(Math.floor(row / PER_SHEET)))[row % PER_SHEET] ?? "";
  };
  coterie.sharp = (image) => { // of a picture of few pixels each is shown
    image.onload = () => image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) <= 32);
    return image;
  };
  coterie.thumbnail = (id, alt = "") => { // a new element, which removes itself where the run keeps no thumbnail
    const image = coterie.sharp(new Image());
    image.alt = alt;
    image.decoding = "async";
    coterie.image(id).then((uri) => { if (uri) image.src = uri; else image.remove(); });
    return image;
  };
  coterie.figure = (id) => { // the element of a picture: that of the store, or a new one
    if (figures.has(id)) return figures.get(id);
    const figure = document.createElement("figure");
    figure.dataset.imageId = id;
    figure.append(coterie.thumbnail(id, by.get(id).name));
    return figure;
  };
  // Places that show a picture once more, filled when they come near; those of the kinds also when they are printed.
  const empty = (root) => all("[data-copy]", root).filter((place) => !one("img:not(.over)", place));
  const fill = (place) => {
    nearing.unobserve(place);
    place.prepend(coterie.thumbnail(+place.dataset.copy));
    place.title ||= by.get(+place.dataset.copy).name;
  };
  const nearing = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) fill(target);
  }, { rootMargin: "600px" });
  coterie.copies = (root) => empty(root).forEach((place) => nearing.observe(place));
  addEventListener("beforeprint", () => empty(one("#kinds")).forEach(fill));

  // The selection.
  let last = null;
  coterie.select = (ids, how = "only") => {
    if (how === "only") selection.clear();
    for (const id of ids) {
      if (how === "take" || (how === "toggle" && selection.has(id))) selection.delete(id); else selection.add(id);
      last = id;
    }
    const bar = one("#selected");
    bar.hidden = !selection.size;
    one("b", bar).textContent = `${selection.size.toLocaleString("en")} selected`;
    coterie.drawn?.();
    coterie.drawMap?.();
    coterie.onSelect.forEach((call) => call(selection));
  };
  coterie.upTo = (id) => { // from the last one selected to this, as they are shown
    const [a, b] = [coterie.shown.indexOf(last), coterie.shown.indexOf(id)];
    coterie.select(a < 0 ? [id] : [...coterie.shown.slice(Math.min(a, b), Math.max(a, b) + 1), id], "add");
  };
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
  coterie.csv = (ids) =>
    ["id,path,cluster,name,confidence", ...[...ids].sort((a, b) => a - b).map((id) => {
      const { name, kind, confidence } = by.get(id);
      return [id, cell(name), kind, cell(kinds.get(kind).name), confidence.toFixed(3)].join(",");
    })].join("\n") + "\n";
  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); } catch { // a page from a folder may not be allowed to
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  const save = (text, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  one("#selected").addEventListener("click", async (event) => {
    const act = event.target.closest("[data-do]")?.dataset.do, ids = [...selection].sort((a, b) => a - b);
    if (act === "copy") { await copy(ids.map((id) => by.get(id).name).join("\n") + "\n"); coterie.say(`${ids.length} paths copied`); }
    if (act === "save") save(coterie.csv(ids), "selected.csv");
    if (act === "clear") coterie.select([]);
  });

  // The kinds: cards, and the one that is open.
  const drawKinds = () => {
    const cards = one(".cards"), largest = Math.max(1, ...coterie.listed().map((kind) => kind.size));
    for (const card of all(".card")) if (!kinds.get(+card.dataset.kind)?.size) card.remove();
    for (const kind of coterie.listed()) {
      let card = one(`.card[data-kind="${kind.number}"]`);
      if (!card) {
        card = one(".card")?.cloneNode(true);
        if (!card) continue;
        all("img, .others, .cover", card).forEach((old) => old.remove());
        card.dataset.kind = kind.number;
        card.href = `#cluster-${kind.number}`;
        one("b", card).lastChild.textContent = kind.number < 0 ? "Unsure" : `Cluster ${kind.number}`;
        const cover = document.createElement("span");
        cover.className = "cover";
        cover.dataset.copy = pictures.find((picture) => picture.kind === kind.number).id;
        card.prepend(cover);
        cards.append(card);
        coterie.copies(card);
      }
      card.style.setProperty("--k", kind.colour);
      one("[data-name]", card).textContent = kind.name;
      one("[data-size]", card).textContent = `${kind.size.toLocaleString("en")} · ${coterie.percent(kind.size / pictures.length)}`;
      one("[data-sure]", card).textContent = kind.number < 0 ? "in no cluster" : `${coterie.percent(kind.sum / kind.size)} sure`;
      for (const dot of all(".dot", card)) dot.style.setProperty("--k", kind.colour);
      one(".bar i", card).style.width = `${(100 * kind.size) / largest}%`;
      card.toggleAttribute("data-open", kind.number === coterie.kind);
      if (kind.number === coterie.kind) card.setAttribute("aria-current", "true"); else card.removeAttribute("aria-current");
    }
    const select = one("#filter").elements.kind, words = ["all", ...coterie.listed().map(({ number }) => coterie.called(number))];
    if ([...select.options].map(({ text }) => text).join("\n") !== words.join("\n")) {
      select.replaceChildren(new Option("all", ""), ...coterie.listed().map(({ number }) => new Option(coterie.called(number), number)));
    }
    select.value = coterie.kind ?? "";
  };
  const drawHead = () => {
    const head = one("#open-kind"), kind = kinds.get(coterie.kind);
    head.style.setProperty("--k", kind?.colour ?? "transparent");
    one("h2", head).textContent = kind ? coterie.called(kind.number) : "All pictures";
    const said = kind
      ? [`${kind.size.toLocaleString("en")} pictures`, `${coterie.percent(kind.size / pictures.length)} of all`,
        ...(kind.number < 0 ? [] : [`${coterie.percent(kind.sum / Math.max(1, kind.size))} sure`]), ...(kind.told ? [kind.told] : [])]
      : [`${pictures.length.toLocaleString("en")} pictures`];
    one("p", head).textContent = said.join(" · ");
  };
  coterie.show = (kind, place = false) => {
    coterie.kind = kinds.get(kind)?.size ? kind : null;
    drawKinds();
    drawHead();
    coterie.filter();
    if (place) one("#pictures").scrollIntoView();
    coterie.onShow.forEach((call) => call(coterie.kind));
  };
  coterie.step = (by_) => { // to the next kind
    const numbers = coterie.listed().map((kind) => kind.number);
    if (numbers.length) coterie.show(numbers[(numbers.indexOf(coterie.kind) + by_ + numbers.length) % numbers.length], true);
  };
  coterie.refresh = (labels = [], names = []) => {
    for (const [id, kind] of labels) by.get(id).kind = kind;
    count();
    for (const [number, name] of names) if (kinds.has(number)) kinds.get(number).name = name;
    coterie.show(coterie.kind);
  };

  const opened = () => {
    const found = /^#cluster-(-?\d+)$/.exec(location.hash);
    if (found) coterie.show(+found[1], true);
  };
  coterie.start = () => {
    for (const hidden of all("#filter, #grid, #cloud, .map-tools, [data-help]")) hidden.hidden = false;
    const store = one("#store");
    if (store) store.hidden = true;
    for (const section of all("#neighbours, #attention, #rounds")) section.hidden = false;
    coterie.copies(document);
    const first = coterie.listed().filter((kind) => kind.number >= 0).sort((a, b) => b.size - a.size)[0];
    coterie.show(first ? first.number : null);
    addEventListener("hashchange", opened);
    document.addEventListener("click", (event) => { // the same address again is no change of it
      const link = event.target.closest('a[href^="#cluster-"]');
      if (link && link.getAttribute("href") === location.hash) opened();
    });
    opened();
  };
}
