// Runs before the first paint, so that the page never flashes in the wrong colours.
(function () {
  var choice = null;
  try {
    choice = localStorage.getItem('orchestrion.theme');
  } catch (error) {
    // Storage may be forbidden; the system's preference is used then.
  }
  var dark = choice === 'dark' || (choice !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
  document.documentElement.classList.toggle('dark', dark);
})();
