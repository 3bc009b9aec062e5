"""The hosts that package managers install from, behind one switch.

Only what installing needs: no upload hosts, and no host where anyone can keep files of their own (github.com and its
releases, storage.googleapis.com), for such a host is a way out for data. Name those in the allow-list if need be.
"""

from __future__ import annotations

REGISTRIES: tuple[str, ...] = (
    *("pypi.org", "files.pythonhosted.org"),
    *("registry.npmjs.org", "registry.yarnpkg.com"),
    *("deb.debian.org", "security.debian.org", "ftp.debian.org"),
    *("archive.ubuntu.com", "*.archive.ubuntu.com", "security.ubuntu.com", "ports.ubuntu.com"),
    *("crates.io", "index.crates.io", "static.crates.io"),
    *("proxy.golang.org", "sum.golang.org"),
    *("rubygems.org", "index.rubygems.org"),
    *("conda.anaconda.org", "repo.anaconda.com"),
    *("repo.maven.apache.org", "repo1.maven.org"),
    *("cran.r-project.org", "cloud.r-project.org"),
)
