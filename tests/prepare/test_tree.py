"""Finding things in folders as people have them: nested, linked in circles, spelled at will."""

import pytest

from popos_cli.prepare.tree import DEPTH, Tree


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def found(tree, pattern, root):
    return [path.relative_to(root).as_posix() for path in tree.files(pattern)]


def test_files_are_found_with_case_ignored_the_shallowest_first(tmp_path):
    fill(tmp_path, "a/b/LIST.txt", "z/list.TXT", "a/blacklist.txt", "a/list.txt.bak")
    assert found(Tree.below(tmp_path), r"list\.txt", tmp_path) == ["z/list.TXT", "a/b/LIST.txt"]


def test_folders_are_found_by_the_end_of_their_path(tmp_path):
    fill(tmp_path, "x/Helen/TrainSet/1.jpg", "helen/trainset/1.jpg", "trainset/1.jpg", "helen/other/1.jpg")
    tree = Tree.below(tmp_path)
    assert list(tree.folders("helen", "trainset")) == [
        tmp_path / "helen" / "trainset",
        tmp_path / "x" / "Helen" / "TrainSet",
    ]
    assert list(Tree.below(tmp_path / "helen" / "trainset").folders("HELEN", "trainset")) == [
        tmp_path / "helen" / "trainset"
    ]


def test_circles_of_links_end_and_a_folder_is_listed_as_what_it_is(tmp_path):
    fill(tmp_path, "faces/deep/1.jpg")
    (tmp_path / "faces" / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "faces" / "self").symlink_to(".")
    (tmp_path / "a-link").symlink_to("faces")  # comes before the folder itself
    tree = Tree.below(tmp_path)
    assert found(tree, r"1\.jpg", tmp_path) == ["faces/deep/1.jpg"]
    assert list(tree.listing) == [tmp_path, tmp_path / "faces", tmp_path / "faces" / "deep"]


def test_a_link_out_of_the_root_is_followed_under_its_name(tmp_path):
    fill(tmp_path, "disk/1234/1.jpg", "root/x.txt")
    (tmp_path / "root" / "afw").symlink_to(tmp_path / "disk" / "1234")
    (tmp_path / "root" / "broken").symlink_to(tmp_path / "nowhere")
    tree = Tree.below(tmp_path / "root")
    assert found(tree, r".*\.jpg", tmp_path / "root") == ["afw/1.jpg"]
    assert list(tree.folders("afw")) == [tmp_path / "root" / "afw"]


def test_hidden_folders_are_skipped_but_not_a_hidden_root(tmp_path):
    fill(tmp_path, ".cache/a.txt", ".cache/.git/a.txt", "b/.trash/a.txt", "b/a.txt")
    assert found(Tree.below(tmp_path), r"a\.txt", tmp_path) == ["b/a.txt"]
    assert found(Tree.below(tmp_path / ".cache"), r"a\.txt", tmp_path) == [".cache/a.txt"]


def test_the_search_ends_at_its_depth(tmp_path):
    fill(tmp_path, "d/" * DEPTH + "in.txt", "d/" * (DEPTH + 1) + "out.txt")
    assert found(Tree.below(tmp_path), r"(in|out)\.txt", tmp_path) == ["d/" * DEPTH + "in.txt"]


def test_a_root_that_is_a_file_is_all_there_is(tmp_path):
    fill(tmp_path, "a.zip", "b.zip", "below/c.zip")
    assert found(Tree.below(tmp_path / "a.zip"), r".*\.zip", tmp_path) == ["a.zip"]


@pytest.fixture
def pictures(tmp_path):
    """resolve(name) -> what it means below ibug/, or None."""
    fill(
        tmp_path,
        "ibug/image_092 _01.jpg",
        "ibug/sub/Face.JPG",
        "ibug/sub/only.png",
        "ibug/two.jpg",
        "ibug/two.png",
        "ibug/version.2",
        "ibug/labels.txt",
        "outside.jpg",
    )

    def resolve(name):
        path = Tree.below(tmp_path).pictures(tmp_path / "ibug").find(name)
        assert path is None or path.is_file()
        return path and path.relative_to(tmp_path / "ibug").as_posix()

    return resolve


@pytest.mark.parametrize(
    "name, meant",
    [
        ("image_092 _01.jpg", "image_092 _01.jpg"),
        ("image_092_01.jpg", "image_092 _01.jpg"),
        ("IMAGE_092_01.png", "image_092 _01.jpg"),
        ("sub/Face.JPG", "sub/Face.JPG"),
        ("SUB/face.jpg", "sub/Face.JPG"),
        ("./sub//Face.JPG", "sub/Face.JPG"),
        ("sub/only.jpg", "sub/only.png"),
        ("sub/only", "sub/only.png"),
        ("two.png", "two.png"),
        ("TWO.PNG", "two.png"),  # its own ending before another
        ("TWO.JPG", "two.jpg"),
        ("only.png", None),
        ("Face.JPG", None),
        ("version.2", None),
        ("labels.txt", None),
        ("", None),
        ("../outside.jpg", None),
        ("sub/../two.jpg", None),
        ("/two.jpg", None),
    ],
)
def test_names_in_labels(pictures, name, meant):
    assert pictures(name) == meant


def test_an_absolute_name_means_nothing_even_inside_the_folder(tmp_path, pictures):
    assert pictures(str(tmp_path / "ibug" / "two.jpg")) is None


def test_two_pictures_that_differ_by_a_space_are_themselves(tmp_path, pictures):
    fill(tmp_path, "ibug/image_092_01.jpg", "ibug/IMAGE_092_01.jpg")
    for name in ("image_092 _01.jpg", "image_092_01.jpg", "IMAGE_092_01.jpg"):
        assert pictures(name) == name
    assert pictures("Image_092 _01.JPG") == "image_092 _01.jpg"  # the case is less than a space
    assert pictures("Image_092_01.JPG") == "IMAGE_092_01.jpg"


def test_pictures_are_counted_and_others_are_not(tmp_path, pictures):
    tree = Tree.below(tmp_path)
    assert len(tree.pictures(tmp_path / "ibug")) == 5
    assert len(tree.pictures(tmp_path / "ibug" / "sub")) == 2
    assert len(tree.pictures(tmp_path / "elsewhere")) == 0
