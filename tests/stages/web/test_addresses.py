import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base import Fail
from stages.web.addresses import AllowedHosts, is_public
from stages.web.reasons import FetchError
from stages.web.url import check_url
from tests.stages.web.conftest import Book, Wire

INWARD = [
    *(
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "0.0.0.0",
        "255.255.255.255",
    ),
    *("100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "240.0.0.1", "198.18.0.1"),
    *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1"),
]


@pytest.mark.parametrize("address", INWARD)
def test_addresses_that_lead_inwards_are_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808", "2002:808:808::"]
)
def test_public_addresses_pass(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_in_another_is_judged_like_itself(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    forms = {
        "mapped": (0xFFFF << 32) | number,
        "NAT64": (0x64FF9B << 96) | number,
        "6to4": (0x2002 << 112) | (number << 80),
    }
    if not is_public(str(inner)):
        assert not any(is_public(str(ipaddress.IPv6Address(form))) for form in forms.values())


@given(st.ip_addresses(v=4))
def test_odd_forms_of_an_address_are_the_address(address: ipaddress.IPv4Address) -> None:
    number, (a, b, c, d) = int(address), address.packed
    odd = [
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a:#x}.{b:#o}.{c}.{d}".replace("0o", "0"),
        f"{a}.{number & 0xFFFFFF}",
    ]
    for host in odd:
        assert check_url(f"http://{host}/x").host == str(address)


@pytest.mark.parametrize("host", ["1.2.3.4.5", "999999999999", "1.2.3.256", "0x", "08.1.1.1"])
def test_numbers_that_are_no_address_are_no_host(host: str) -> None:
    with pytest.raises(FetchError) as refused:
        check_url(f"http://{host}/")
    assert refused.value.reason == "bad_url"


@pytest.mark.parametrize(
    "host",
    [
        *("8.8.8.8%41.example", "8.8.8.8%2eexample", "a%62.example", "[2606:4700::1%25eth0]", "[v1.a:b]"),
        *("a b.example", "a..example", "a\0b.example", f"{'a' * 64}.example", ".".join(["a" * 50] * 6)),
    ],
)
def test_what_no_name_and_no_address_has_is_no_host(host: str) -> None:
    """The first ones begin like public addresses, and are names that a resolver may lead inwards."""
    with pytest.raises(FetchError) as refused:
        check_url(f"http://{host}/")
    assert refused.value.reason == "bad_url"


@pytest.mark.parametrize("host", ["a_b.example", "a.example.", "xn--bcher-kva.example", "[2606:4700::1]", "localhost"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert str(check_url(f"http://{host}/")) == f"http://{host}/"


def test_what_is_allowed_is_a_host_a_port_or_a_network() -> None:
    allowed = AllowedHosts.parse(["intra.net", "10.0.0.1:80", "192.168.0.0/16", "[::1]:8080", "fd00::5"])
    assert allowed.has("intra.net", 443, "10.9.9.9")
    assert allowed.has("10.0.0.1", 80, "10.0.0.1") and not allowed.has("10.0.0.1", 81, "10.0.0.1")
    assert allowed.has("any.host", 80, "192.168.3.4") and not allowed.has("any.host", 80, "192.169.3.4")
    assert allowed.has("::1", 8080, "::1") and allowed.has("fd00::5", 1, "fd00::5")


@pytest.mark.parametrize("entry", ["", "http://x", "10.0.0.0/33", "a:b:c:zz", "x:123456"])
def test_what_is_none_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ValueError):
        AllowedHosts.parse([entry])


def test_inward_hosts_are_refused_by_default(wire: Wire) -> None:
    before = wire.site.connections
    for host in ("127.0.0.1", "2130706433", "0x7f.1", "one.test"):
        assert wire.reason(wire.url("good", host=host), allow_hosts=[]) == "private_address"
    assert wire.site.connections == before


def test_a_redirect_to_an_inward_host_is_refused(wire: Wire) -> None:
    target = wire.url("good", host="two.test").replace("/", "|")
    (result,) = wire.fetch(wire.url(f"elsewhere/{target}", host="one.test"), allow_hosts=["one.test"])
    assert isinstance(result, Fail) and result.reason == "private_address"


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(wire: Wire) -> None:
    """The lookup answers once with an allowed address, then with another: it is asked once, and that is used."""

    class Rebinding(Book):
        async def addresses(self, host: str) -> list[str]:
            self.asked.append(host)
            return ["127.0.0.1"] if len(self.asked) == 1 else ["10.0.0.1"]

    book = Rebinding()
    url = wire.url("good", host="one.test")
    results = wire.fetch(url, url, url, lookup=book, allow_hosts=["127.0.0.1/32"])
    assert not any(isinstance(result, Fail) for result in results)
    assert book.asked == ["one.test"]


def test_of_several_addresses_only_public_ones_are_used(plain: Wire) -> None:
    book = Book(one_test=["10.0.0.1", "127.0.0.1"])
    (result,) = plain.fetch(plain.url("good", host="one.test"), lookup=book, allow_hosts=["127.0.0.0/8"])
    assert not isinstance(result, Fail)
