"""What is wrong between us and the broker, in one line that says what to do about it.

The errors are redis-py's, py-amqp's, kombu's and the operating system's, wrapped in one another.
"""

import re
from collections.abc import Iterator

from celeryscope.errors import CeleryscopeError
from celeryscope.redaction import redact

URL_FORM = (
    "write redis://HOST:6379/0 or amqp://HOST:5672/VHOST, user:password@ before the host, @ / : ? # % in them "
    "percent-encoded"
)

_LONGEST_REASON = 200  # characters
_DEEPEST_CHAIN = 5  # errors that are causes of one another
_AMQP_CODE = re.compile(r"^(\(\d+, \d+\)|\w+\.\w+): \(\d{3}\) ")  # before the text of an error from the broker
_QUOTED = "{reason}"  # not in diagnoses of URLs, where the reason may quote a piece of a password

# The first that matches anything in the chain of errors: pattern, what is wrong, what to do.
_DIAGNOSES = tuple(
    (re.compile(pattern), what, remedy)
    for pattern, what, remedy in (
        (
            r"Authentication required|NOAUTH|called without any password",
            "the broker wants credentials{reason}",
            "put them into the broker URL, best in a file (--broker-url-file)",
        ),
        (
            r"access to (exchange|queue|topic) .* refused",
            "the broker's user lacks a permission{reason}",
            "give it configure, write and read on celeryev.* and the pidbox names: rabbitmqctl set_permissions",
        ),
        (
            r"Authentication(WrongNumberOfArgs)?Error|AuthorizationError|WRONGPASS|AccessRefused|ACCESS_REFUSED",
            "the broker refused the credentials{reason}",
            "check user and password of the broker URL; @ / : ? # % in them must be percent-encoded",
        ),
        (
            r"NoCredentialsError|InvalidClientTokenId|SignatureDoesNotMatch|UnrecognizedClientException|ExpiredToken",
            "SQS refused the credentials{reason}",
            "check key id and secret key of the broker URL, percent-encoded, or those of this machine's role",
        ),
        (
            r"ClientError: .*AccessDenied",
            "the broker's user lacks a permission{reason}",
            "allow sqs:ListQueues, sqs:GetQueueUrl and sqs:GetQueueAttributes",
        ),
        (
            r"EndpointConnectionError|ConnectTimeoutError|ReadTimeoutError",
            "SQS did not answer{reason}",
            "check that its endpoint can be reached from here, and the region",
        ),
        (
            r"(?i)no permissions? .*(channel|'p?subscribe'|'publish')",
            "the broker's user may not use pub/sub, which carries events{reason}",
            'allow it: ACL SETUSER <user> +@pubsub "&*"',
        ),
        (
            r"NoPermissionError|NOPERM",
            "the broker's user lacks a permission{reason}",
            "grant it with ACL SETUSER, or use another user",
        ),
        (
            r"PRECONDITION_FAILED",
            "the broker has something of that name, declared otherwise{reason}",
            "delete it there, or name another exchange, the workers' own (--event-exchange)",
        ),
        (
            r"heartbeats? missed",
            "the broker has been silent for two heartbeats{reason}",
            "it is frozen, or the network between us is gone",
        ),
        (
            r"ConsumerCancelled",
            "the broker has cancelled our consumer{reason}",
            "somebody deleted its queue, or the node that held it is gone",
        ),
        (
            r"NotAllowed|vhost .* not found",
            "the broker refused the virtual host{reason}",
            "check the path of the broker URL and the user's permissions for it",
        ),
        (
            r"gaierror|Name or service not known|nodename nor servname|No address associated",
            "the broker's host name is not known{reason}",
            "check the host of the broker URL, and the name service of this machine or container",
        ),
        (
            r"CERTIFICATE_VERIFY_FAILED",
            "the broker's certificate is not accepted{reason}",
            "name its CA (?ssl_cert_reqs=required&ssl_ca_certs=/path/ca.pem) and the host it is made for",
        ),
        (
            r"CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|BAD_CERTIFICATE",
            "the broker did not accept our side of TLS{reason}",
            "give it a client certificate: ?ssl_certfile=/path/cert.pem&ssl_keyfile=/path/key.pem",
        ),
        (
            r"WRONG_VERSION_NUMBER|handshake operation timed out|RECORD_LAYER|SSLError|SSLEOFError",
            "the broker's port does not answer TLS as it should{reason}",
            "use redis:// or amqp:// where it has no TLS, or give a client certificate where it wants one",
        ),
        (
            r"ConnectionRefusedError|Connection refused",
            "the broker refused the connection{reason}",
            "is it running, and are host and port of the broker URL right?",
        ),
        (
            r"MasterNotFoundError",
            "no sentinel knows a reachable master{reason}",
            "check the sentinels' addresses and master_name, and sentinel_kwargs where they want a password",
        ),
        (
            r"master_name",
            "sentinel:// needs the name of the master{reason}",
            "add --broker-transport-option master_name=NAME",
        ),
        (
            r"unknown command .*SENTINEL",
            "what answers there is no sentinel{reason}",
            "use redis:// for the server itself, or the sentinels' port, often 26379",
        ),
        (
            r"max number of clients",
            "the broker has no connection left{reason}",
            "raise its maxclients, or close what holds connections",
        ),
        (
            r"BusyLoadingError|is loading the dataset",
            "the broker is still reading its data{reason}",
            "it answers when it is done",
        ),
        (
            r"ReadOnlyError|READONLY",
            "what answers there is a read-only replica{reason}",
            "use the address of the primary, or sentinel://",
        ),
        (
            r"DB index is out of range|SELECT is not allowed",
            "the broker has no such database{reason}",
            "the path of the broker URL is its number, such as /0",
        ),
        (
            r"InvalidResponse|Protocol error|UnexpectedFrame",
            "what answers there speaks another protocol{reason}",
            "check the port of the broker URL, and its transport",
        ),
        (
            r"(?i)TimeoutError|timed out",
            "the broker did not answer in time{reason}",
            "check that host and port can be reached from here (firewall, network policy)",
        ),
        (
            r"(?i)Connection reset|Broken pipe|Connection (already )?closed|Server unexpectedly closed|EOF|"
            r"ConnectionForced|Socket closed",
            "the broker closed the connection{reason}",
            "it was restarted or dropped us; if this repeats, it may want TLS: rediss:// or amqps://",
        ),
        (
            r"No such transport|Invalid transport scheme",
            "the broker URL's transport is not known{reason}",
            "use redis, rediss, sentinel or amqp, or another that kombu has",
        ),
        (
            r"(?m)ModuleNotFoundError|ImportError|^NameError",
            "the transport's client library is missing{reason}",
            "install it beside celeryscope, such as with pip install 'celery[sqs]'",
        ),
        (
            r"unexpected keyword argument",
            "the broker URL has a parameter that kombu does not take{reason}",
            "give it as --broker-transport-option KEY=VALUE",
        ),
        (
            r"FileNotFoundError",
            "a file that the way to the broker needs is not there{reason}",
            "check the certificates, or the socket, that the broker URL names",
        ),
        (
            r"(?m)^KeyError",
            "the broker URL has a parameter that kombu cannot read{reason}",
            "ssl_cert_reqs, for one, is required, optional or none",
        ),
        (
            r"Port could not be cast|Port out of range|Invalid IPv6|Database is int|netloc",
            "the broker URL cannot be read",
            URL_FORM,
        ),
    )
)


def describe(error: BaseException) -> str:
    """Return one line: what is wrong, why, and what to do. Credentials are masked."""
    if isinstance(error, CeleryscopeError):
        return redact(str(error))
    text = "\n".join(f"{type(link).__name__}: {reason_of(link)}" for link in _chain(error))
    for pattern, what, remedy in _DIAGNOSES:
        if pattern.search(text):
            reason = reason_of(error) if _QUOTED in what else ""
            return redact(f"{what.replace(_QUOTED, f' ({reason})' if reason else '')}: {remedy}")
    reason = reason_of(error)
    return redact(f"{type(error).__name__}: {reason}" if reason else type(error).__name__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(_DEEPEST_CHAIN):
        if link is None:
            return
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def reason_of(error: BaseException) -> str:
    """Return the error's text on one line, shortened, not masked."""
    text = error.args[0] if len(error.args) == 1 and isinstance(error.args[0], str) else str(error)
    # Sentinel's error goes on with the whole state of redis-py's client.
    line = _AMQP_CODE.sub("", " ".join(text.partition(" : <")[0].split()).rstrip(". "))
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."
