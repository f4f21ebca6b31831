"""Looks into the packages of a directory: what a stranger needs must be there, and nothing of the machine they were made on."""
import glob
import os
import re
import sys
import zipfile

LIBRARIES = {
    "FastTrap": ["FastTrap.Native", "Iced", "Microsoft.Extensions.Logging.Abstractions"],
    "FastTrap.Native": [],
}


def problems_of(directory, name, dependencies):
    pattern = os.path.join(directory, name + ".[0-9]*.nupkg")
    found = glob.glob(pattern)
    if len(found) != 1:
        yield f"{len(found)} packages fit {pattern}"
        return
    with zipfile.ZipFile(found[0]) as package:
        files = package.namelist()
        print(os.path.basename(found[0]), *sorted(files), sep="\n  ")
        for file in [f"lib/net10.0/{name}.dll", f"lib/net10.0/{name}.xml", "README.md", "LICENSE", "CHANGELOG.md", name + ".nuspec"]:
            if file not in files:
                yield f"{name}: {file} is missing"
        spec = package.read(name + ".nuspec").decode("utf-8-sig")
        for text in ["<license type=\"expression\">MIT</license>", "<readme>README.md</readme>", "<description>", "<tags>", "<authors>", "<copyright>", "<releaseNotes>"]:
            if text not in spec:
                yield f"{name}: the metadata lacks {text}"
        if sorted(re.findall(r'<dependency id="([^"]+)"', spec)) != dependencies:
            yield f"{name}: dependencies are not {dependencies}"
        if "<member name=" not in package.read(f"lib/net10.0/{name}.xml").decode("utf-8-sig"):
            yield f"{name}: the documentation is empty"
        if os.environ.get("CI") == "true" and os.getcwd().encode() in package.read(f"lib/net10.0/{name}.dll"):
            yield f"{name}: the assembly names the directory that it was built in"
    symbols = found[0].removesuffix(".nupkg") + ".snupkg"
    if not os.path.exists(symbols):
        yield f"{name}: there is no symbol package"
        return
    with zipfile.ZipFile(symbols) as package:
        if f"lib/net10.0/{name}.pdb" not in package.namelist():
            yield f"{name}: the symbol package has no symbols"


def main():
    problems = [p for name, dependencies in LIBRARIES.items() for p in problems_of(sys.argv[1], name, dependencies)]
    print(*problems, sep="\n")
    return 1 if problems else 0


sys.exit(main())
