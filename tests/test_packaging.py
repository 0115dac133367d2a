"""What the packaging lists is what there is."""

import configparser
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import tinyfoa_np

ROOT = Path(__file__).resolve().parents[1]


def setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def test_every_package_is_listed():
    packages = {".".join(init.parent.relative_to(ROOT / "src").parts) for init in ROOT.glob("src/**/__init__.py")}
    assert set(setup_cfg()["options"]["packages"].split()) == packages | {"tinyfoa_cli"}


def test_installed_metadata_are_those_of_setup_cfg():
    try:
        version = metadata.version("tinyfoa-np")
    except metadata.PackageNotFoundError:
        pytest.skip("tinyfoa-np is not installed, only on the path: run make test")
    assert version == tinyfoa_np.__version__
    [script] = [e for e in metadata.entry_points(group="console_scripts") if e.name == "tinyfoa"]
    assert script.value == "tinyfoa_cli.entry:main"


def test_the_version_stands_in_one_place():
    texts = [*ROOT.glob("src/**/*.py"), *ROOT.glob("cli/*.py"), *(ROOT / n for n in ("setup.cfg", "CITATION.cff"))]
    assert [path.name for path in texts if tinyfoa_np.__version__ in path.read_text()] == ["__init__.py"]


def test_what_the_package_offers_is_there_and_comes_when_it_is_used():
    code = "import sys, tinyfoa_np; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert all(callable(getattr(tinyfoa_np, name)) for name in tinyfoa_np.__all__)
    assert set(tinyfoa_np.__all__) < set(dir(tinyfoa_np))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tinyfoa_np.nothing


def test_all_holds_every_extra_for_users():
    extras = setup_cfg()["options.extras_require"]
    users = [name for name in extras if name not in ("test", "docs", "dev", "all")]
    needed = {line for name in users for line in extras[name].split("\n") if line}
    assert needed == {line for line in extras["all"].split("\n") if line}


def test_importing_the_package_does_not_import_numba():
    code = "import sys, tinyfoa_np, tinyfoa_np.data, tinyfoa_np.recipe; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
