"""Names that nobody was told an address of: what is one search, and what are several failures."""

from __future__ import annotations

import pytest

from analyzer.rules import run
from analyzer.rules._cases import Case


def refused(*asked):
    """Queries (second, name) that are refused at once, each again three seconds later."""
    lines = []
    for number, (second, name) in enumerate(sorted((t + again, name) for t, name in asked for again in (0, 3))):
        lines += [f"{second}.0 > DNS {number} {name}", f"{second}.002 < DNS {number} {name} 3"]
    return Case("", packets="\n".join(lines)).story()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([(10, "db.shop.svc"), (10, "db.svc")], ["db.shop.svc"]),  # one search
        ([(10, "api.one.example"), (60, "api.two.example")], ["api.one.example", "api.two.example"]),
        ([(10, "db"), (10, "db.svc")], ["db"]),  # told by what was asked for
    ],
)
def test_forms_of_one_search_are_one_failure(asked, told):
    assert [item.title.split(" ")[0] for item in run(refused(*asked))] == told
