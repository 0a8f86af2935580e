//! Gateway: who may ask, for what, and how often.
//!
//! Owns the tokens of this box and the policies of its endpoints. It answers whose a token is, what its
//! principal may do with an endpoint, and whether one more call is within the limits. Nothing here reads
//! a request, and nothing here knows what an endpoint serves.

pub mod caller;
pub mod limit;
pub mod policy;
pub mod token;

pub use caller::{ADMINS, Caller, Grant, Grantee, PermissionLevel, PrincipalKind, USERS, granted};
pub use limit::{LimitKey, Limits, OverLimit, RateLimit};
pub use policy::{
    ChangePolicyError, LoadPoliciesError, MOST_GRANTS, Policies, Policy, PolicyRecord,
};
pub use token::{
    CreateTokenError, FirstTokenError, FirstTokenRecord, LoadTokensError, LoginError, NewToken,
    ParseTokenIdError, RevokeTokenError, TokenId, TokenOwner, TokenRecord, TokenView, Tokens,
};
