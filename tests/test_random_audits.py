"""The first 20 recipes of random_audits.py, trained with audit."""

import pytest
import random_audits

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.usefixtures("no_waiting_for_the_disk")]


@pytest.mark.parametrize("number", range(20))
def test_an_honest_run_has_no_findings(tmp_path, number):
    assert random_audits.audit(number, tmp_path)[1] == []
