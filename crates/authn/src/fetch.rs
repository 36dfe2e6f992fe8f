//! Documents and answers of other parties, behind a seam: this crate opens no connection itself.

use std::pin::Pin;

/// A document on its way; the error says why there is none.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + 'a>>;

/// Brings documents over HTTPS. Whoever implements it bounds time and size and follows no redirect.
pub trait Fetch: Send + Sync {
    /// GET.
    fn get<'a>(&'a self, url: &'a str) -> Fetching<'a>;
    /// POST of a JSON document.
    fn post<'a>(&'a self, url: &'a str, body: Vec<u8>) -> Fetching<'a>;
}
