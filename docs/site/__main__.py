"""`python -m docs.site` builds the site into build/site; a warning fails it.

`python -m docs.site --pages` only writes its pages, into build/docs, for `zensical serve`.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site import llms, pages

ROOT = Path(__file__).parents[2]
# As zensical.toml names them.
PAGES, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"

_WARNING = re.compile(r"^(griffe|mkdocstrings|mkdocs_autorefs|WARNING)", re.MULTILINE)


def main() -> int:
    pages.write(PAGES)
    if "--pages" in sys.argv[1:]:
        return 0
    # Nothing that an older build left is published.
    shutil.rmtree(SITE, ignore_errors=True)
    zensical = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    built = subprocess.run(zensical, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = built.stdout.decode()
    print(output, end="")
    # --strict ends it for links; those that read docstrings only say what they miss.
    if built.returncode or _WARNING.search(output):
        return 1
    llms.copy_pages(PAGES, SITE)
    print(f"Written: {SITE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
