"""What a SOAP answer holds: every sale that can be read, the others apart, and nothing of what is no whole answer."""

import pytest
from lxml import etree

from services.legacy_poller.answer import AnswerError, sales_of

NS = "urn:placar:sales"
ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
GOOD = "<s:Sale><s:saleId>{}</s:saleId></s:Sale>"


def answer(*sales: str, beside: str = "") -> bytes:
    """An answer with these sales, and something beside it in the body."""
    return (
        f'<e:Envelope xmlns:e="{ENVELOPE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Body>'
        f'<s:GetRecentSalesResponse xmlns:s="{NS}"><s:sales>{"".join(sales)}</s:sales></s:GetRecentSalesResponse>'
        f"{beside}</e:Body></e:Envelope>"
    ).encode()


def read(body: bytes, content_type: str = "text/xml") -> tuple[list[str | None], list[bytes]]:
    """The ids of the sales that can be read, and the bytes of those that cannot."""
    sales = sales_of(body, 200, content_type)
    elements = [sale for sale in sales if not isinstance(sale, bytes)]
    return [sale.findtext("{*}saleId") for sale in elements], [sale for sale in sales if isinstance(sale, bytes)]


@pytest.mark.parametrize(
    "bad",
    [
        "<s:Sale><s:saleId>A & B</s:saleId></s:Sale>",
        "<s:Sale><s:saleId>a<b</s:saleId></s:Sale>",
        "<s:Sale><s:saleId>&undefined;</s:saleId></s:Sale>",
        "<s:Sale><s:saleId>1</s:city></s:Sale>",
        "<s:Sale><s:saleId>a\x01b</s:saleId></s:Sale>",
        "<x:Sale><x:saleId>1</x:saleId></x:Sale>",
        "<s:Sale><s:saleId>1</s:saleId>",
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_malformed_sale_does_not_stop_the_others(bad: str, position: int) -> None:
    """A sale that is not well-formed is given by its bytes, wherever it is, and the others are read."""
    sales = [GOOD.format(1), GOOD.format(2)]
    sales.insert(position, bad)
    assert read(answer(*sales)) == (["1", "2"], [bad.encode()])


@pytest.mark.parametrize("cut", [5, 30, 60, 100, 130])
@pytest.mark.parametrize("bad", [GOOD.format(3), "<s:Sale><s:saleId>A & B</s:saleId></s:Sale>"])
def test_what_is_cut_off_is_no_answer(bad: str, cut: int) -> None:
    """An answer that ends too early is an error whatever its sales hold: the next call brings all of it."""
    whole = answer(GOOD.format(1), bad)
    with pytest.raises(AnswerError):
        sales_of(whole[:-cut], 200, "text/xml")


MULTI_REF = [
    (
        '<s:item href="#id0"/><s:item href="#id1"/>',
        f'<multiRef id="id0" xsi:type="n:Sale" xmlns:n="{NS}"><saleId>1</saleId></multiRef>'
        f'<multiRef id="id1" xsi:type="n:Sale" xmlns:n="{NS}"><saleId href="#id2"/></multiRef>'
        '<multiRef id="id2" xsi:type="xsd:string">2</multiRef>',
    ),
    (
        '<s:Sale href="#a"/><s:Sale href="#b"/>',
        '<multiRef id="a"><saleId>1</saleId></multiRef><multiRef id="b"><saleId>2</saleId></multiRef>',
    ),
]


@pytest.mark.parametrize(("references", "targets"), MULTI_REF)
def test_references_are_followed(references: str, targets: str) -> None:
    """An answer in the encoding of SOAP 1.1, section 5, holds the sales that its references stand for."""
    assert read(answer(references, beside=targets)) == (["1", "2"], [])


@pytest.mark.parametrize(
    ("references", "targets"),
    [
        ('<s:Sale href="#gone"/>', ""),
        ('<s:Sale href="#a"/>', '<multiRef id="a"><saleId href="#a"/></multiRef>'),
        ('<s:Sale href="#a"/>', '<multiRef id="a">' + '<b href="#a"/>' * 200 + "</multiRef>"),
        ("<s:Verkauf><s:saleId>1</s:saleId></s:Verkauf>", ""),
    ],
)
def test_what_is_not_understood_is_no_answer(references: str, targets: str) -> None:
    """References that lead nowhere and elements that are no sales are an error, never an answer without sales."""
    with pytest.raises(AnswerError):
        sales_of(answer(references, beside=targets), 200, "text/xml")


def test_an_answer_without_sales() -> None:
    """No sales are an answer."""
    assert read(answer()) == ([], [])


@pytest.mark.parametrize(
    ("encoding", "declared", "content_type"),
    [
        ("iso-8859-1", "", "text/xml; charset=ISO-8859-1"),
        ("iso-8859-1", "utf-8", "text/xml; charset=iso-8859-1"),
        ("iso-8859-1", "ISO-8859-1", "text/xml"),
        ("cp1252", "", 'text/xml; charset="windows-1252"'),
        ("utf-16", "", "text/xml"),
        ("utf-16-le", "", "text/xml; charset=utf-16le"),
        ("utf-8-sig", "", "text/xml"),
        ("utf-8", "utf-8", ""),
    ],
)
def test_encodings(encoding: str, declared: str, content_type: str) -> None:
    """The charset of the HTTP header counts, then what the document says of itself, then UTF-8."""
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    assert read((head + answer(GOOD.format("é")).decode()).encode(encoding), content_type) == (["é"], [])


@pytest.mark.parametrize("content_type", ["text/xml; charset=utf-8", "text/xml; charset=klingon", "text/xml"])
def test_bytes_of_another_encoding(content_type: str) -> None:
    """Bytes that are not of their encoding are an error, not other characters."""
    with pytest.raises(AnswerError, match=r"utf-8|klingon"):
        sales_of(answer(GOOD.format("é")).decode().encode("latin-1"), 200, content_type)


def test_text_around_processing_instructions_and_comments() -> None:
    """A processing instruction or a comment within a value takes nothing away from it."""
    assert read(answer(GOOD.format("a<?x y?>b<!-- c -->d"))) == (["abd"], [])


@pytest.mark.parametrize("status", [200, 500])
def test_faults_and_document_types(status: int) -> None:
    """A fault and a document type declaration are errors."""
    inner = "<e:Body><e:Fault><faultcode>e:Server</faultcode></e:Fault></e:Body>"
    fault = f'<e:Envelope xmlns:e="{ENVELOPE}">{inner}</e:Envelope>'
    for body in (fault.encode(), b"<!DOCTYPE a []>" + answer(GOOD.format(1)), b"<html>busy</html>", b""):
        with pytest.raises(AnswerError):
            sales_of(body, status, "text/xml")


def test_many_sales_are_split_in_time() -> None:
    """Twenty thousand sales, one of them malformed, are read without going over the answer again for each."""
    sales = [GOOD.format(number) for number in range(20_000)]
    sales[10_000] = "<s:Sale><s:saleId>A & B</s:saleId></s:Sale>"
    ids, malformed = read(answer(*sales))
    assert (len(ids), len(malformed)) == (19_999, 1)
    assert isinstance(sales_of(answer(GOOD.format(1)), 200, "")[0], etree._Element)
