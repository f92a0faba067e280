"""The sales of an answer to GetRecentSales: within bounds, and a malformed sale apart from the others. Pure."""

import re
from copy import deepcopy

from lxml import etree

from chassis.xml import as_utf_8
from contracts.text import quoted

ENVELOPE = "{http://schemas.xmlsoap.org/soap/envelope/}"
TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
OPERATION = "GetRecentSales"
DEPTH = 4  # the list, its sales, their values, and no more
MAX_ELEMENTS = 500_000
_START = re.compile(rb"<(?:[\w.-]+:)?Sale(?=[\s/>])")
_END = re.compile(rb"</(?:[\w.-]+:)?Sale\s*>")
_LIST_END = re.compile(rb"</(?:[\w.-]+:)?(?:sales|GetRecentSalesResponse)\s*>")
_NAMESPACE = re.compile(rb"(xmlns(?::[\w.-]+)?)\s*=\s*(\"[^\"<]*\"|'[^'<]*')")


class AnswerError(Exception):
    """The service answered with a fault, with something else than a whole answer, or with too much."""


def _parse(content: bytes) -> etree._Element:
    """The document without comments and processing instructions.

    Raises:
        etree.XMLSyntaxError: it is not well-formed.
        AnswerError: it declares a document type.
    """
    parser = etree.XMLParser(
        resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False, remove_comments=True, remove_pis=True
    )
    document = etree.fromstring(content, parser)
    if document.getroottree().docinfo.internalDTD is not None:
        raise AnswerError("the answer declares a document type")
    return document


def _apart(content: bytes) -> tuple[bytes, list[bytes]]:
    """An answer without its malformed sales, and those."""
    starts = [match.start() for match in _START.finditer(content)]
    names = dict(_NAMESPACE.findall(content[: starts[0]] if starts else b""))
    opening = b"<x " + b" ".join(name + b"=" + value for name, value in names.items()) + b">"
    rest: list[bytes] = []
    malformed, position = [], 0
    for start, following in zip(starts, [*starts[1:], len(content)], strict=True):
        ends = [match.end() for match in _END.finditer(content, start, following)]
        unclosed = _LIST_END.search(content, start, following)
        end = ends[-1] if ends else unclosed.start() if unclosed else following
        sale = content[start:end]
        try:
            _parse(opening + sale + b"</x>")
        except etree.XMLSyntaxError:
            malformed.append(sale)
            sale = b""
        rest += [content[position:start], sale]
        position = end
    return b"".join([*rest, content[position:]]), malformed


def _resolve(document: etree._Element, answer: etree._Element) -> None:
    """Replace each reference of the answer (SOAP 1.1, section 5: href to a multiRef) by what it stands for.

    Raises:
        AnswerError: it stands for nothing, or for more than sales and their values.
    """
    targets = {element.get("id"): element for element in document.iter("*") if element.get("id")}
    elements = 0
    for _ in range(DEPTH):
        references = [element for element in answer.iter("*") if (element.get("href") or "").startswith("#")]
        if not references:
            return
        for element in references:
            reference = element.attrib.pop("href")
            target = targets.get(str(reference)[1:])
            if target is None:
                raise AnswerError(f"the reference {quoted(reference)} stands for nothing")
            elements += 1 + len(target)
            if elements > MAX_ELEMENTS:
                raise AnswerError(f"the references stand for more than {MAX_ELEMENTS} elements")
            element.text = target.text
            element.extend([deepcopy(child) for child in target])
            if (kind := target.get(TYPE)) is not None:
                element.set(TYPE, kind)
    raise AnswerError("the references stand for references again and again")


def _is_sale(element: etree._Element) -> bool:
    kind = element.get(TYPE, "").rpartition(":")[2]
    return etree.QName(element).localname == "Sale" or kind == "Sale"


def sales_of(body: bytes, status: int, content_type: str) -> list[etree._Element | bytes]:
    """The Sale elements of an answer, and the bytes of each that is not well-formed.

    Raises:
        AnswerError: the answer is a SOAP fault, or not a whole answer to the operation.
    """
    begins = f"HTTP {status}; the answer begins {body[:200]!r}"
    malformed: list[bytes] = []
    try:
        content = as_utf_8(body, content_type)
        try:
            document = _parse(content)
        except etree.XMLSyntaxError:
            content, malformed = _apart(content)
            document = _parse(content)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise AnswerError(f"{error}; {begins}") from error
    fault = document.find(f"{ENVELOPE}Body/{ENVELOPE}Fault")
    if fault is not None:
        raise AnswerError(f"fault {fault.findtext('faultcode')}: {(fault.findtext('faultstring') or '')[:300]}")
    answers = document.findall(f"{ENVELOPE}Body/{{*}}{OPERATION}Response")
    if status != 200 or len(answers) != 1:
        raise AnswerError(f"no {OPERATION}Response, or several; {begins}")
    _resolve(document, answers[0])
    sales = [element for element in answers[0].iter("*") if _is_sale(element)]
    if not sales and not malformed and any(len(child) for child in answers[0]):
        raise AnswerError(f"none of the elements in {OPERATION}Response is a Sale; {begins}")
    return [*sales, *malformed]
