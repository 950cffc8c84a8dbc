"""Pictures -> faces and their landmarks."""

from typing import Literal

# "auto" is YuNet where it has been downloaded, else Haar. It stands here so that `popos --help` can list the
# names without importing OpenCV.
DetectorName = Literal["auto", "haar", "yunet"]
