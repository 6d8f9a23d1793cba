//! Refuses answers to a listing that are no listing.
//!
//! The client reads whatever XML it gets and takes what it misses for "nothing there", so an error page with status 200, or
//! one that was cut off, would pass for an empty store. Prune and the search for the newest record must never see that.

use super::connect::refuse;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::client::{HttpError, HttpResponse};

/// Largest page: 5,000 names of 1,024 bytes with their properties, escaped.
const MAX_PAGE_BYTES: usize = 16 << 20;

/// Whether a request with this query asks for a listing, as S3 and Google (`list-type`) or Azure (`comp`) spell it.
pub(super) fn is_asked(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        query
            .split('&')
            .any(|pair| matches!(pair, "list-type=2" | "comp=list"))
    })
}

/// The response with its body, which is a whole listing.
pub(super) async fn checked(response: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let mut page = BytesMut::new();
    let mut pieces = body.bytes_stream();
    while let Some(piece) = pieces.try_next().await? {
        if page.len() + piece.len() > MAX_PAGE_BYTES {
            return Err(refuse("a page of a listing is too large"));
        }
        page.extend_from_slice(&piece);
    }
    if !is_page(&page) {
        return Err(refuse(
            "the answer to a listing is no listing, or is cut off",
        ));
    }
    Ok(HttpResponse::from_parts(parts, Bytes::from(page).into()))
}

/// Whether the last thing in the page is the end of a listing. Some servers give the element a namespace prefix.
fn is_page(page: &[u8]) -> bool {
    let end = page.trim_ascii_end();
    [&b"ListBucketResult"[..], b"EnumerationResults"]
        .iter()
        .any(|name| {
            let opened = end.strip_suffix(b"/>").or_else(|| end.strip_suffix(b">"));
            opened.is_some_and(|rest| rest.ends_with(name))
        })
}

#[cfg(test)]
mod tests {
    use super::is_page;

    #[test]
    fn only_whole_listings_pass() {
        assert!(is_page(b"<ListBucketResult></ListBucketResult>\n"));
        assert!(is_page(b"<s3:ListBucketResult/>"));
        assert!(is_page(b"<EnumerationResults></EnumerationResults>"));
        for bad in [
            &b""[..],
            b"<Error><Code>InternalError</Code></Error>",
            b"<html></html>",
            b"<ListBucketResult><Contents><Key>a</Key></Cont",
        ] {
            assert!(!is_page(bad));
        }
    }
}
