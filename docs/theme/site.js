// What the theme leaves out for keyboards and screen readers.
document$.subscribe(() => {
  document.querySelector("[data-md-component=search]")?.setAttribute("aria-label", "Search");
  document.querySelectorAll("nav.md-nav--primary").forEach((nav) => nav.setAttribute("aria-label", "Pages"));
  // Wide tables, code and formulas scroll inside the page: the keyboard must reach those that do.
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code, .formula")) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", "scrolls sideways");
    } else box.removeAttribute("tabindex");
  }
});
