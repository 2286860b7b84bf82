"""Packs folders of references: hundreds of files that are far smaller than a disk's blocks."""

import pathlib
import shutil
import zipfile


def pack(folder: pathlib.Path):
    """Puts the folder's files into `FOLDER.zip`, and removes them. Pictures gain nothing by being compressed again."""
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            archive.writestr(zipfile.ZipInfo(file.relative_to(folder).as_posix()), file.read_bytes())
    shutil.rmtree(folder)
