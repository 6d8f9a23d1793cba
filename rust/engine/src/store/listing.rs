//! Refuses answers to a listing that are no listing.
//!
//! The client reads whatever XML it gets and takes what it misses for "nothing there", so an error page with status 200, or
//! one that was cut off, would pass for an empty store. Prune and the search for the newest record must never see that.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

/// Largest page: 1,000 names of 1,024 bytes with their properties, escaped.
const MAX_PAGE_BYTES: usize = 16 << 20;

/// Connects like the client does by itself, and checks listings.
#[derive(Debug, Default)]
pub(super) struct ListingCheck;

impl HttpConnector for ListingCheck {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Checked(plain)))
    }
}

#[derive(Debug)]
struct Checked(HttpClient);

#[async_trait]
impl HttpService for Checked {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_listing = request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair == "list-type=2"));
        let response = self.0.execute(request).await?;
        if !is_listing || !response.status().is_success() {
            return Ok(response);
        }
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
}

fn refuse(why: &'static str) -> HttpError {
    HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other(why))
}

/// Whether the last thing in the page is the end of a listing. Some servers give the element a namespace prefix.
fn is_page(page: &[u8]) -> bool {
    let end = page.trim_ascii_end();
    end.ends_with(b"ListBucketResult>") || end.ends_with(b"ListBucketResult/>")
}

#[cfg(test)]
mod tests {
    use super::is_page;

    #[test]
    fn only_whole_listings_pass() {
        assert!(is_page(b"<ListBucketResult></ListBucketResult>\n"));
        assert!(is_page(b"<s3:ListBucketResult/>"));
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
