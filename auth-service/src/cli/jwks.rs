//! A key set from a file or a URL, for commands that work without the database.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use verifier::{HttpSource, JwksRequest, JwksSource as _};

use super::Failure;

/// Maximum size of a key set.
const MAX_SIZE: u64 = 256 * 1024;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the current document. Caches between this program and a URL must revalidate their copy.
pub(super) async fn read(place: &str) -> Result<Vec<u8>, Failure> {
    if !place.starts_with("https://") && !place.starts_with("http://") {
        return Ok(read_file(Path::new(place)).map_err(|cause| format!("{place}: {cause}"))?);
    }
    let (source, mut request) = (HttpSource::new(place)?, JwksRequest::default());
    request.no_cache = true;
    let fetched = tokio::time::timeout(FETCH_TIMEOUT, source.fetch(&request)).await;
    Ok(fetched.map_err(|_| "the key set did not arrive within 5 s")??.document.unwrap_or_default())
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut document = Vec::new();
    // One byte more than the maximum, so that the parser refuses a longer document.
    File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut document)?;
    Ok(document)
}
