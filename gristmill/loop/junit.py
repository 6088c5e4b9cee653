"""A verdict as JUnit XML, which CI systems show: a test case for each check; what did not pass is a failure."""

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as Xml

FAILED = ("reject", "inconclusive")


def junit(told: Mapping[str, Any]) -> str:
    """The XML of what `gate` tells."""
    checks = told["checks"]
    failures = sum(check["verdict"] in FAILED for check in checks)
    skipped = sum(check["verdict"] == "unchecked" for check in checks)
    counts = {"tests": str(len(checks)), "failures": str(failures), "skipped": str(skipped)}
    suite = Xml.Element("testsuite", {"name": f"gristmill gate: {told['verdict']}", **counts})
    for check in checks:
        case = Xml.SubElement(suite, "testcase", {"classname": f"gate.{check['check']}", "name": check["name"]})
        if check["verdict"] in FAILED:
            Xml.SubElement(case, "failure", {"type": check["verdict"], "message": check["why"]})
        elif check["verdict"] == "unchecked":
            Xml.SubElement(case, "skipped", {"message": check["why"]})
    return Xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
