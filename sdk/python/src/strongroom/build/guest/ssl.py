"""A replacement for ``ssl``: the sandbox has no TLS, and many packages import the module anyway."""


def _unavailable(*args, **kwargs):
    raise OSError(
        "TLS is not available in a component: use plain HTTP or a plain connection to a granted "
        "address, or move the data with the input folder"
    )


class SSLError(OSError):
    pass


class SSLWantReadError(SSLError):
    pass


class SSLWantWriteError(SSLError):
    pass


class SSLZeroReturnError(SSLError):
    pass


class SSLSyscallError(SSLError):
    pass


class SSLEOFError(SSLError):
    pass


class SSLCertVerificationError(SSLError, ValueError):
    pass


CertificateError = SSLCertVerificationError
socket_error = OSError


class SSLContext:
    def __init__(self, *args, **kwargs):
        _unavailable()


class SSLSocket:
    pass


class SSLObject:
    pass


class MemoryBIO:
    def __init__(self):
        _unavailable()


class SSLSession:
    pass


class Purpose:
    SERVER_AUTH = "server"
    CLIENT_AUTH = "client"


class TLSVersion:
    MINIMUM_SUPPORTED = -2
    SSLv3 = 768
    TLSv1 = 769
    TLSv1_1 = 770
    TLSv1_2 = 771
    TLSv1_3 = 772
    MAXIMUM_SUPPORTED = -1


class VerifyMode(int):
    pass


create_default_context = wrap_socket = get_server_certificate = _unavailable
_create_default_https_context = _create_unverified_context = create_default_context

CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = VerifyMode(0), VerifyMode(1), VerifyMode(2)
PROTOCOL_TLS, PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER = 2, 16, 17
PROTOCOL_SSLv23 = PROTOCOL_TLS
HAS_SNI = HAS_ALPN = HAS_NPN = HAS_TLSv1_3 = HAS_TLSv1_2 = False
HAS_NEVER_CHECK_COMMON_NAME = True
OPENSSL_VERSION = "none: TLS is not available in a component"
# urllib3 refuses to be imported with a version below 1.1.1.
OPENSSL_VERSION_INFO = (3, 0, 0, 0, 0)
OPENSSL_VERSION_NUMBER = 0x30000000


def __getattr__(name):
    # The many numbers and names of the real module.
    if name.startswith(("OP_", "VERIFY_", "PROTOCOL_", "CERT_", "HAS_", "ALERT_")):
        return 0
    raise AttributeError(f"module 'ssl' has no attribute {name!r}")
