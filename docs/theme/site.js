// Wide tables and code scroll inside the page: let the keyboard reach them too, where they do scroll.
document$.subscribe(() => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code, .formula")) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
      if (!box.hasAttribute("aria-label")) { box.setAttribute("role", "region"); box.setAttribute("aria-label", "scrolls sideways"); }
    } else box.removeAttribute("tabindex");
  }
});
