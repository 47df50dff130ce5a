"""The web configuration file: what is read of it, and what is said of one that cannot be honoured."""

import ssl
from pathlib import Path
from textwrap import indent

import pytest

from celeryscope import config, webconfig
from celeryscope.errors import ConfigError
from celeryscope.webconfig import CIPHERS, CURVES, TlsSettings, WebConfig

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
PAIR = "tls_server_config:\n  cert_file: c.pem\n  key_file: k.pem\n"
VERIFIED = PAIR + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


def read(file: Path, text: str) -> WebConfig:
    file.write_text(text)
    return webconfig.read(file)


def tls(file: Path, text: str) -> TlsSettings:
    settings = read(file, text).tls
    assert settings is not None
    return settings


def refusal(file: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    return message.replace(str(file), "FILE")


class TestReading:
    def test_a_pair_is_tls_1_2_and_newer_without_client_certificates(self, file: Path) -> None:
        settings = tls(file, PAIR)
        assert settings == TlsSettings(cert_file=file.parent / "c.pem", key_file=file.parent / "k.pem")
        assert (settings.min_version, settings.max_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
        assert settings.client_auth is ssl.CERT_NONE

    def test_paths_are_relative_to_the_file_unless_absolute(self, file: Path) -> None:
        settings = tls(file, "tls_server_config: {cert_file: tls/c.pem, key_file: /run/k.pem}")
        assert settings.cert_file == file.parent / "tls/c.pem"
        assert settings.key_file == Path("/run/k.pem")

    def test_everything_is_read(self, file: Path) -> None:
        text = VERIFIED + (
            "  client_allowed_sans: [prometheus.example.org, '2001:DB8::0:1']\n"
            "  min_version: TLS12\n  max_version: TLS12\n  prefer_server_cipher_suites: false\n"
            "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n  curve_preferences: [CurveP256]\n"
            "http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n"
            f"    Strict-Transport-Security: max-age=31536000\nbasic_auth_users:\n  alice: {HASH}\n"
        )
        config = read(file, text)
        assert config.tls == TlsSettings(
            cert_file=file.parent / "c.pem",
            key_file=file.parent / "k.pem",
            client_auth=ssl.CERT_REQUIRED,
            client_ca_file=file.parent / "ca.pem",
            client_allowed_sans=frozenset({"prometheus.example.org", "2001:db8::1"}),
            min_version=ssl.TLSVersion.TLSv1_2,
            max_version=ssl.TLSVersion.TLSv1_2,
            ciphers=("ECDHE-RSA-AES128-GCM-SHA256",),
            prefers_own_ciphers=False,
            curve="prime256v1",
        )
        assert config.headers == (("X-Frame-Options", "deny"), ("Strict-Transport-Security", "max-age=31536000"))
        assert config.users == {"alice": HASH.encode()}

    def test_passwords_go_without_tls_and_tls_without_passwords(self, file: Path) -> None:
        assert read(file, f"basic_auth_users: {{a: {HASH}}}").tls is None
        assert read(file, PAIR + "basic_auth_users:\n").users == {}

    def test_a_number_is_a_header_too(self, file: Path) -> None:
        config = read(file, "http_server_config: {headers: {X-XSS-Protection: 0}}")
        assert config.headers == (("X-XSS-Protection", "0"),)

    def test_what_is_blank_is_absent(self, file: Path) -> None:
        settings = tls(file, PAIR + '  client_ca_file: ""\n  client_auth_type:\n')
        assert (settings.client_ca_file, settings.client_auth) == (None, ssl.CERT_NONE)

    def test_every_cipher_and_curve_is_one_that_openssl_knows_by_that_name(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(":".join(CIPHERS.values()))
        offered = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"}
        assert offered == set(CIPHERS.values())
        for curve in CURVES.values():
            context.set_ecdh_curve(curve)


class TestKeys:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("tls_server_confg: {}", "unknown key tls_server_confg in FILE; did you mean tls_server_config?"),
            (PAIR + "  cert_fil: x", "unknown key tls_server_config.cert_fil in FILE; did you mean cert_file?"),
            (
                "http_server_config: {headers: {X-Frame-Option: deny}}",
                "unknown key http_server_config.headers.X-Frame-Option in FILE; did you mean X-Frame-Options?",
            ),
            ("http_server_config: {zzz: 1}", "unknown key http_server_config.zzz in FILE; known are http2, headers"),
            ("7: x", "unknown key 7 in FILE; known are tls_server_config"),
        ],
    )
    def test_an_unknown_key_is_named_with_its_path_and_the_nearest(self, file: Path, text: str, said: str) -> None:
        assert refusal(file, text).startswith(said)

    def test_a_key_that_is_given_twice_is_refused(self, file: Path) -> None:
        said = refusal(file, f"basic_auth_users:\n  bob: {HASH}\n  bob: {HASH}\n")
        assert '"bob" is given twice, at line 3' in said

    def test_an_empty_file_is_refused_since_it_guards_nothing(self, file: Path) -> None:
        assert "is empty" in refusal(file, "# nothing\n")
        assert "is empty" in refusal(file, "{}")

    @pytest.mark.parametrize(
        "text", ["a: [", "\x07", "- tls_server_config", "just words", "a: !!python/name:os.system", "[" * 1000]
    )
    def test_what_is_no_yaml_is_refused_in_one_line(self, file: Path, text: str) -> None:
        assert "is not YAML as expected" in refusal(file, text)

    @pytest.mark.parametrize(
        "value", ["!!map [a]", "!!map a", "!!timestamp a", "!!bool a", "!!int a", "!!binary é", "&a {http2: !!set *a}"]
    )
    def test_a_value_that_is_not_what_its_tag_says_is_refused(self, file: Path, value: str) -> None:
        assert "is not YAML as expected" in refusal(file, f"http_server_config: {value}")

    @pytest.mark.parametrize("value", ["&a {http2: *a}", "{http2: {2020-01-01: x}}", "{http2: {? !!binary eA== : x}}"])
    def test_a_value_that_json_cannot_show_is_refused_too(self, file: Path, value: str) -> None:
        said = refusal(file, f"http_server_config: {value}")
        assert said.startswith("http_server_config.http2 cannot be {")
        assert said.endswith("must be true or false")

    def test_a_line_break_in_a_key_is_told_and_breaks_no_line(self, file: Path) -> None:
        assert refusal(file, '"a\\nb": 1').startswith('unknown key "a\\nb" in FILE')
        assert refusal(file, 'basic_auth_users: {"a\\nb": 1}').startswith('basic_auth_users."a\\nb" cannot be')

    def test_a_home_folder_that_nobody_has_is_said(self) -> None:
        with pytest.raises(ConfigError, match="no home folder is known for its ~"):
            config.load({"broker_url": "redis://127.0.0.1/0", "web_config_file": "~nobody-at-all/web.yml"}, {})

    def test_a_file_that_is_not_there_or_none_is_said(self, file: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            webconfig.read(file)
        with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
            webconfig.read(file.parent)

    def test_what_is_quoted_of_the_file_holds_no_hash(self, file: Path) -> None:
        assert HASH[8:20] not in refusal(file, f"basic_auth_users:\n  bob: {HASH}\n nonsense")
        assert HASH[8:20] not in refusal(file, f"basic_auth_users:\n  bob: {HASH[:-1]}\n")


class TestWhatCannotBeHonoured:
    @pytest.mark.parametrize("policy", ["RequestClientCert", "RequireAnyClientCert", "RequireClientCert"])
    def test_certificates_that_are_not_verified(self, file: Path, policy: str) -> None:
        said = refusal(file, PAIR + f"  client_auth_type: {policy}\n")
        assert said.startswith(f'tls_server_config.client_auth_type cannot be "{policy}", from FILE: must be one of')
        assert said.endswith("takes no certificate of a client that it does not verify")

    @pytest.mark.parametrize("key", ["cert", "key", "client_ca"])
    def test_certificates_within_the_file(self, file: Path, key: str) -> None:
        said = refusal(file, PAIR + f"  {key}: secret-bytes\n")
        assert f"tls_server_config.{key} " in said
        assert said.endswith(f"use {key}_file")
        assert "secret-bytes" not in said

    @pytest.mark.parametrize("key", ["cert_file", "key_file"])
    @pytest.mark.parametrize("form", ["|\n", "\n", '"{}"', "[{}]"])
    def test_a_key_where_its_file_belongs_is_not_told(self, file: Path, key: str, form: str) -> None:
        pem = "-----BEGIN PRIVATE KEY-----\nsecret-bytes\n-----END PRIVATE KEY-----"
        value = form.format(pem.replace("\n", "\\n")) if "{}" in form else form + indent(pem, "    ")
        said = refusal(file, f"tls_server_config:\n  {key}: {value}\n")
        assert said.startswith(f"tls_server_config.{key} cannot be this value (not shown")
        assert "secret-bytes" not in said

    @pytest.mark.parametrize("name", ["a\\0b", "\\ud800"])
    def test_a_path_that_no_file_can_have(self, file: Path, name: str) -> None:
        said = refusal(file, f'tls_server_config: {{cert_file: "{name}", key_file: k.pem}}')
        assert said.endswith("must be the path of a file")

    @pytest.mark.parametrize("version", ["TLS10", "TLS11"])
    def test_old_versions(self, file: Path, version: str) -> None:
        said = refusal(file, PAIR + f"  min_version: {version}\n")
        assert "must be one of TLS12, TLS13; it is not safe" in said

    def test_a_choice_among_the_suites_of_tls_1_3(self, file: Path) -> None:
        said = refusal(file, PAIR + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n")
        assert "tls_server_config.cipher_suites" in said
        assert "cannot choose among the suites of TLS 1.3" in said

    def test_more_than_one_curve(self, file: Path) -> None:
        said = refusal(file, PAIR + "  curve_preferences: [X25519, CurveP256]\n")
        assert "tls_server_config.curve_preferences" in said
        assert "takes a single one" in said

    def test_a_rate_limit(self, file: Path) -> None:
        assert "rate_limit in FILE is not supported" in refusal(file, "rate_limit: {interval: 1s, burst: 20}")


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("tls_server_config: {cert_file: c.pem}", "tls_server_config in FILE lacks key_file"),
            ("tls_server_config: {min_version: TLS13}", "tls_server_config in FILE lacks cert_file"),
            ("tls_server_config:", "tls_server_config in FILE lacks cert_file"),
            ("tls_server_config: [a]", "tls_server_config in FILE must hold keys and values"),
            (PAIR + "  client_ca_file: ca.pem", "client_auth_type asks for no certificate"),
            (PAIR + "  client_auth_type: RequireAndVerifyClientCert", "lacks a client_ca_file"),
            (PAIR + "  client_auth_type: Any", 'client_auth_type cannot be "Any"'),
            (PAIR + "  client_allowed_sans: [a]", "a client without a certificate comes in"),
            (VERIFIED + "  client_allowed_sans: []", "must be a list of DNS names"),
            (PAIR + "  min_version: TLS13\n  max_version: TLS12", "is above max_version"),
            (PAIR + "  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", "TLS_RSA_WITH_RC4_128_SHA"),
            (PAIR + "  cipher_suites: [[a]]", '["a"] is none of them'),
            (PAIR + '  prefer_server_cipher_suites: "yes"', "must be true or false"),
            ("http_server_config: {headers: {X-Frame-Options: allow}}", "must be one of deny, sameorigin"),
            ('http_server_config: {headers: {X-XSS-Protection: "a\\r\\nSet-Cookie: b"}}', "must be one line"),
            ("http_server_config: {headers: 7}", "http_server_config.headers cannot be 7"),
            ("basic_auth_users: {bob: hunter2}", "must be a bcrypt hash"),
            ("basic_auth_users: {bob: }", "must be a bcrypt hash"),
            (f"basic_auth_users: {{bob: {HASH[:28]}p{HASH[29:]}}}", "must be a bcrypt hash"),
            (f"basic_auth_users: {{bob: {HASH[:-1]}H}}", "must be a bcrypt hash"),
            (f"basic_auth_users: {{yes: {HASH}}}", "put it in quotes"),
            (f"basic_auth_users: {{'a:b': {HASH}}}", "holds a colon"),
            (f"basic_auth_users: {{bob: {HASH.replace('$10$', '$17$')}}}", "its cost is 17"),
        ],
    )
    def test_is_named_with_its_reason(self, file: Path, text: str, said: str) -> None:
        message = refusal(file, text)
        assert said in message
        assert "hunter2" not in message
