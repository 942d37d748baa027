"""Settings that differ are named, those that one side does not know do not count."""

from maskedit.plugin.session_settings import differences


def test_differences_are_named_down_to_the_option() -> None:
    began = {"seed": 0, "options": {"steps": 20, "dropped": 1}, "photos": [4, 16]}
    given = {"seed": 0, "options": {"steps": 10, "new": 2}, "photos": [4, 8], "added": True}
    assert list(differences(began, given)) == [("options: steps", 20, 10), ("photos", [4, 16], [4, 8])]


def test_equal_settings_have_none() -> None:
    assert not list(differences({"options": {"steps": 20}}, {"options": {"steps": 20}}))


def test_a_group_that_became_a_value_differs() -> None:
    assert list(differences({"options": {"steps": 20}}, {"options": None})) == [("options", {"steps": 20}, None)]
