"""The sign-in of the console with an OpenID Connect provider: what the page and its policy are told of it."""

from urllib.parse import urlsplit

from tracking_query.settings import QuerySettings


def provider_origins(settings: QuerySettings) -> list[str]:
    """The origins that the page asks for metadata and tokens; none without a provider."""
    if not settings.oidc_issuer:
        return []
    issuer = urlsplit(settings.oidc_issuer)
    others = filter(None, settings.oidc_origins.split(","))
    return list(dict.fromkeys([f"{issuer.scheme}://{issuer.netloc}", *others]))


def sign_in_settings(settings: QuerySettings) -> dict[str, str | None]:
    """The settings that the page needs to sign somebody in. None is secret: it is a public client."""
    return {
        "issuer": settings.oidc_issuer,
        "client_id": settings.oidc_client_id,
        "scope": settings.oidc_scope,
        "resource": settings.oidc_resource or None,
        "audience": settings.oidc_audience or None,
    }
