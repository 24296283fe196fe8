/* The map: a canvas of all pictures. A click opens one, drawing around some selects them. */
{
  const { pictures, by, kinds, selection } = coterie;
  const canvas = document.querySelector("#cloud"), peek = document.querySelector("#peek"), context = canvas.getContext("2d");
  const lassoButton = document.querySelector("[data-lasso]");
  const TALL = +canvas.dataset.height / 1000, MARGIN = 0.024, NEAR = 12; // of the width; px to a point that counts as meant
  let width = 0, height = 0, scale = 1, current = null, path = null, down = null, over = null, asked = false, drawnLast = false;

  const placed = () => pictures.filter(({ x }) => x >= 0);
  const place = ({ x, y }) => [(MARGIN + x * (1 - 2 * MARGIN)) * width, (MARGIN + y * (1 - 2 * MARGIN)) * width];
  const style = (name) => getComputedStyle(canvas).getPropertyValue(name).trim();

  coterie.drawMap = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); });
  };
  const measure = () => {
    width = canvas.clientWidth;
    height = Math.round(width * TALL);
    scale = devicePixelRatio;
    canvas.style.height = `${height}px`;
    canvas.width = width * scale;
    canvas.height = height * scale;
    coterie.drawMap();
  };
  const draw = () => {
    if (!width) return;
    const { lit } = coterie, radius = Math.max(1.6, (+canvas.dataset.radius * width) / 1000) * (width < 500 ? 1.5 : 1);
    const points = placed(), ink = style("--ink"), card = style("--card");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const dots = (some, alpha) => {
      context.globalAlpha = alpha;
      for (const picture of some) {
        const [x, y] = place(picture);
        context.fillStyle = kinds.get(picture.kind).colour;
        context.beginPath();
        context.arc(x, y, radius, 0, 7);
        context.fill();
      }
    };
    const bright = ({ id, kind }) => (over === null ? !lit || lit.has(id) : kind === over);
    dots(points.filter((picture) => !bright(picture)), 0.28);
    dots(points.filter(bright), 0.85);
    context.globalAlpha = 1;
    for (const [ids, line] of [[selection, 2], [current === null ? [] : [current], 3]]) {
      context.strokeStyle = ink;
      context.lineWidth = line;
      for (const id of ids) {
        const picture = by.get(id);
        if (picture.x < 0) continue;
        context.beginPath();
        context.arc(...place(picture), radius + line, 0, 7);
        context.stroke();
      }
    }
    context.font = `700 ${Math.max(11, Math.min(20, width / 50))}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 4;
    context.lineJoin = "round";
    for (const [kind, x, y] of middles(points)) {
      const text = kinds.get(kind).name ? `${kind} ${kinds.get(kind).name.slice(0, 18)}` : String(kind);
      context.strokeStyle = card;
      context.fillStyle = ink;
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    }
    if (path) {
      context.beginPath();
      path.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.closePath();
      context.globalAlpha = 0.12;
      context.fillStyle = ink;
      context.fill();
      context.globalAlpha = 1;
      context.lineWidth = 1.5;
      context.strokeStyle = ink;
      context.stroke();
    }
  };
  const median = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1];
  const middles = (points) => {
    const of = new Map();
    for (const picture of points) {
      if (picture.kind < 0) continue;
      if (!of.has(picture.kind)) of.set(picture.kind, []);
      of.get(picture.kind).push(place(picture));
    }
    return [...of].map(([kind, xy]) => [kind, median(xy.map(([x]) => x)), median(xy.map(([, y]) => y))]);
  };

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const nearest = ([x, y], wanted = () => true, most = NEAR) => {
    let best = null, least = most ** 2;
    for (const picture of placed()) {
      const [a, b] = place(picture), distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < least && wanted(a - x, b - y)) [best, least] = [picture, distance];
    }
    return best;
  };
  const inside = ([x, y], ring) => {
    let found = false;
    ring.forEach(([a, b], i) => {
      const [c, d] = ring.at(i - 1);
      if (b > y !== d > y && x < ((c - a) * (y - b)) / (d - b) + a) found = !found;
    });
    return found;
  };

  const tell = (picture, x, y) => {
    peek.hidden = !picture;
    if (!picture) return;
    if (+peek.dataset.id !== picture.id) {
      peek.dataset.id = picture.id;
      const told = `${coterie.called(picture.kind)}, ${coterie.percent(picture.confidence)}`;
      peek.replaceChildren(coterie.thumbnail(picture.id), picture.name, document.createElement("br"), told);
    }
    peek.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - 200))}px`;
    peek.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - 200))}px`;
  };
  const light = (kind) => {
    if (kind === over) return;
    over = kind;
    coterie.drawMap();
  };
  document.querySelector(".cards").addEventListener("pointerover", (event) => {
    const card = event.target.closest(".card");
    light(card ? +card.dataset.kind : null);
  });
  document.querySelector(".cards").addEventListener("pointerleave", () => light(null));

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || (event.pointerType === "touch" && lassoButton.ariaPressed !== "true")) return;
    down = at(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (!down) { tell(nearest([x, y]), event.clientX, event.clientY); return; }
    if (!path && Math.hypot(x - down[0], y - down[1]) < 4) return;
    peek.hidden = true;
    path ??= [down];
    path.push([x, y]);
    coterie.drawMap();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (path) {
      const ids = placed().filter((picture) => inside(place(picture), path)).map(({ id }) => id);
      coterie.select(ids, event.shiftKey ? "add" : "only");
      coterie.say(`${ids.length} pictures in the drawn line`);
    }
    drawnLast = path !== null;
    [path, down] = [null, null];
    coterie.drawMap();
  });
  canvas.addEventListener("pointercancel", () => { [path, down] = [null, null]; coterie.drawMap(); });
  canvas.addEventListener("pointerleave", () => { peek.hidden = true; });
  canvas.addEventListener("click", (event) => {
    const found = drawnLast ? null : nearest(at(event));
    drawnLast = false;
    if (!found) return;
    current = found.id;
    if (event.shiftKey || event.ctrlKey || event.metaKey) coterie.select([found.id], "toggle"); else coterie.open(found.id);
  });
  lassoButton.addEventListener("click", () => {
    lassoButton.ariaPressed = String(lassoButton.ariaPressed !== "true");
    canvas.style.touchAction = lassoButton.ariaPressed === "true" ? "none" : "auto";
  });

  // With the keys: the nearest picture that lies in the direction of the arrow, more than beside it.
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (arrow) {
      const from = current === null ? [width / 2, height / 2] : place(by.get(current));
      const ahead = (dx, dy) => dx * arrow[0] + dy * arrow[1] > Math.abs(dx * arrow[1] + dy * arrow[0]);
      const found = nearest(from, current === null ? undefined : ahead, Infinity);
      if (found) current = found.id;
    } else if (event.key === "Enter" && current !== null) coterie.open(current);
    else if (event.key === "x" && current !== null) coterie.select([current], "toggle");
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (current !== null) {
      const [x, y] = place(by.get(current)), box = canvas.getBoundingClientRect();
      tell(by.get(current), box.left + x, box.top + y);
      coterie.say(`${by.get(current).name}, ${coterie.called(by.get(current).kind)}`);
    }
    coterie.drawMap();
  });
  canvas.addEventListener("blur", () => { peek.hidden = true; });
  new ResizeObserver(() => { if (canvas.clientWidth !== width) measure(); }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", coterie.drawMap);
}
