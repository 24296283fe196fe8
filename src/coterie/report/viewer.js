/* One picture, large: what it is called, where it was sorted and how surely, what is like it, and the original when the page may tell. */
{
  const { by, kinds, selection } = coterie;
  const viewer = document.querySelector("#viewer"), part = (name) => viewer.querySelector(name);
  let here = null;

  coterie.open = async (id) => {
    const picture = by.get(id);
    here = id;
    part(".name").textContent = picture.name;
    const likely = picture.likely >= 0.01 && picture.second >= 0 ? `, or ${coterie.called(picture.second)}, ${coterie.percent(picture.likely)}` : "";
    const link = document.createElement("a");
    link.href = `#cluster-${picture.kind}`;
    link.textContent = coterie.called(picture.kind);
    part(".kind").replaceChildren(coterie.dot(picture.kind), link, ` ${coterie.percent(picture.confidence)} sure${likely}${picture.twins >= 0 ? "; a near-duplicate" : ""}`);
    const original = document.createElement("a");
    original.href = picture.original;
    original.target = "_blank";
    original.rel = "noreferrer";
    original.textContent = "Open the original";
    part(".link").replaceChildren(...(picture.original ? [original] : []));
    part(".alike").replaceChildren(...picture.near.map((other) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.id = other;
      button.title = coterie.told(by.get(other));
      button.classList.toggle("stranger", by.get(other).kind !== picture.kind);
      button.style.setProperty("--k", kinds.get(by.get(other).kind).colour);
      button.append(coterie.thumbnail(other, by.get(other).name));
      return button;
    }));
    part("h3").hidden = !picture.near.length;
    marked();
    part("#viewer-more").replaceChildren();
    if (!viewer.open) viewer.showModal();
    coterie.onOpen.forEach((call) => call(picture, part("#viewer-more")));
    const image = coterie.sharp(part(".near img"));
    image.alt = picture.name;
    image.classList.remove("tiny");
    const small = await coterie.image(id);
    if (here !== id) return; // another one was asked for since
    if (small) image.src = small; else image.removeAttribute("src");
    if (picture.original) { // the whole picture, where the browser can read it
      const whole = new Image();
      whole.onload = () => { if (here === id) image.src = whole.src; };
      whole.src = picture.original;
    }
  };
  coterie.close = () => viewer.close();
  const marked = () => {
    const button = part("[data-do=select]");
    button.ariaPressed = String(selection.has(here));
    button.firstChild.textContent = selection.has(here) ? "Selected " : "Select ";
  };
  coterie.onSelect.push(() => { if (viewer.open) marked(); });

  coterie.beside = (step) => { // the next of those that are shown
    const { shown } = coterie, at = shown.indexOf(here);
    if (shown.length) coterie.open(shown[(at + step + shown.length) % shown.length]);
  };
  viewer.addEventListener("click", (event) => {
    const button = event.target.closest("button"), act = button?.dataset.do;
    if (button?.dataset.id) coterie.open(+button.dataset.id);
    if (act === "previous") coterie.beside(-1);
    if (act === "next") coterie.beside(1);
    if (act === "select") coterie.select([here], "toggle");
    if (act === "close" || event.target === viewer || event.target.closest(".kind a")) viewer.close();
  });
  viewer.addEventListener("close", () => {
    const at = coterie.shown.indexOf(here);
    if (document.activeElement?.closest("#grid") && at >= 0) coterie.focus(at);
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.target.closest("input, textarea, select")) return;
    if (event.key === "ArrowLeft") coterie.beside(-1);
    else if (event.key === "ArrowRight") coterie.beside(1);
    else if (event.key === "x") coterie.select([here], "toggle");
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // Pictures elsewhere on the page open too.
  document.addEventListener("click", (event) => {
    const place = event.target.closest("figure[data-copy]");
    if (place && !event.target.closest("a")) coterie.open(+place.dataset.copy);
  });
  const help = document.querySelector("#help");
  coterie.help = () => help.showModal();
  help.addEventListener("click", (event) => { if (event.target === help || event.target.closest("button")) help.close(); });
  document.querySelector("[data-help]").addEventListener("click", coterie.help);
}
