
"use strict";
// Sorting, the theme and the drawer. Without it the page is the same text, with every panel below the tables.
document.documentElement.classList.add("js");
const THEMES = ["system", "light", "dark"];

function stored(theme) {
  try {
    if (theme !== undefined) localStorage.setItem("bitgolf-theme", theme);
    return localStorage.getItem("bitgolf-theme");
  } catch { // a browser may keep no storage for files
    return theme ?? null;
  }
}

let theme = THEMES.includes(stored()) ? stored() : "system";
function paint() {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
paint();

function sortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const first = [...body.rows];
  const value = (row, at) => row.cells[at].dataset.value;
  heads.forEach((head, at) => {
    const numbers = first.every((row) => value(row, at) !== "" && isFinite(value(row, at)));
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const turn = down ? -1 : 1;
      const order = (a, b) => {
        const [x, y] = [value(a, at), value(b, at)];
        return turn * (numbers ? x - y : x < y ? -1 : x > y ? 1 : 0) || first.indexOf(a) - first.indexOf(b);
      };
      body.append(...[...first].sort(order));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
  heads[0].setAttribute("aria-sort", "ascending");
}

function drawers() {
  const drawer = document.getElementById("drawer");
  const shown = document.getElementById("shown");
  const places = new Map(); // where a panel stands when it is not open
  for (const panel of document.querySelectorAll(".panel")) {
    const place = document.createComment("");
    panel.before(place);
    places.set(panel.id, { panel, place });
  }
  const back = () => {
    for (const panel of [...shown.children]) places.get(panel.id).place.after(panel);
  };
  const follow = () => {
    const wanted = places.get(location.hash.slice(1));
    back();
    if (!wanted) {
      if (drawer.open) drawer.close();
      return;
    }
    shown.append(wanted.panel);
    drawer.setAttribute("aria-labelledby", `title-${wanted.panel.id}`);
    if (!drawer.open) drawer.showModal();
    drawer.scrollTop = 0;
    wanted.panel.querySelector("h3").focus({ preventScroll: true });
  };
  drawer.addEventListener("close", () => {
    back();
    if (places.has(location.hash.slice(1))) history.replaceState(null, "", location.pathname + location.search);
  });
  drawer.addEventListener("click", (event) => {
    if (event.target === drawer && event.offsetX < 0) drawer.close();
  });
  document.getElementById("close").addEventListener("click", () => drawer.close());
  window.addEventListener("hashchange", follow);
  // the link to the panel that was just closed changes no hash
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) follow();
  });
  window.addEventListener("load", follow); // after the browser's own jump, which would take the focus away
}

document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const name = () => { button.textContent = `Theme: ${theme}` };
  button.hidden = false;
  name();
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    stored(theme);
    paint();
    name();
  });
  document.querySelectorAll("table.board").forEach(sortable);
  drawers();
});
