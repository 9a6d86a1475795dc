//! An answer that is taken as it comes.

use bytes::Bytes;
use reqwest::Response;

use crate::{Client, Error};

/// The body of an answer. Dropping it ends the transfer.
#[derive(Debug)]
pub struct Download {
    client: Client,
    response: Response,
}

impl Download {
    pub(crate) const fn new(client: Client, response: Response) -> Self {
        Self { client, response }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = self.response.chunk().await;
        piece.map_err(|error| self.client.transport(error))
    }
}
