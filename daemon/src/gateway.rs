//! Gateway: who may ask.
//!
//! Owns the tokens of this box. It answers whether a token is good and whose it is; what its
//! principal may do with which endpoint is decided elsewhere. Nothing here reads a request.

pub mod token;

pub use token::{
    CreateTokenError, FirstTokenError, FirstTokenRecord, LoadTokensError, NewToken,
    ParseTokenIdError, RevokeTokenError, TokenId, TokenRecord, TokenView, Tokens,
};
