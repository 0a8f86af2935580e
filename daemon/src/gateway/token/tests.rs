use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use edgeward_base::clock::{Clock as _, TestClock};
use edgeward_base::durable::{FaultFs, RealFs};

use super::*;
use crate::store::StoreOptions;
use crate::tasks::Tasks;

struct Machine {
    folder: tempfile::TempDir,
    clock: Arc<TestClock>,
}

impl Machine {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: TestClock::at(1_700_000_000_000_000),
        }
    }

    fn secrets(&self) -> PathBuf {
        self.folder.path().join("secrets")
    }

    async fn run<T>(&self, work: impl AsyncFnOnce(&Tokens) -> T) -> T {
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let options = StoreOptions::new(
            self.folder.path().to_owned(),
            tasks.clone(),
            self.clock.clone(),
            Arc::new(RealFs),
        )
        .with_table::<TokenRecord>()
        .with_table::<FirstTokenRecord>();
        let (store, _) = Store::open(options).unwrap();
        let tokens = Tokens::load(store.clone(), self.clock.clone()).unwrap();
        let result = work(&tokens).await;
        drop(tokens);
        store.close().await.unwrap();
        drop(store);
        tasks.join_all(Duration::from_secs(180)).await.unwrap();
        result
    }
}

fn someone(name: &str) -> TokenOwner {
    TokenOwner {
        principal: name.parse().unwrap(),
        kind: PrincipalKind::User,
        groups: Vec::new(),
    }
}

/// Whose token it is, if it is good.
fn whose(tokens: &Tokens, token: &str) -> Option<Principal> {
    Some(tokens.authenticate(token).ok()?.principal)
}

fn named(name: &str) -> Principal {
    name.parse().unwrap()
}

#[tokio::test]
async fn a_token_is_good_until_it_is_revoked_also_after_a_restart() {
    let machine = Machine::new();
    let (alice, bob) = machine
        .run(async |tokens| {
            let alice = tokens.create(someone("alice"), None).await.unwrap();
            let bob = tokens
                .create(someone("bob@example.org"), None)
                .await
                .unwrap();
            assert_eq!(whose(tokens, &alice.token), Some(named("alice")));
            tokens.revoke(&alice.view.id).await.unwrap();
            assert_eq!(whose(tokens, &alice.token), None);
            (alice, bob)
        })
        .await;
    machine
        .run(async |tokens| {
            assert_eq!(whose(tokens, &alice.token), None);
            assert_eq!(whose(tokens, &bob.token), Some(named("bob@example.org")));
            assert_eq!(tokens.list(), vec![bob.view.clone()]);
            let again = tokens.revoke(&alice.view.id).await.unwrap_err();
            assert!(matches!(again, RevokeTokenError::NotFound(id) if id == alice.view.id));
        })
        .await;
}

#[tokio::test]
async fn nothing_else_is_a_token() {
    Machine::new()
        .run(async |tokens| {
            let good = tokens.create(someone("alice"), None).await.unwrap().token;
            assert_eq!(good.len(), PREFIX.len() + 43);
            let cut: String = good.chars().take(good.len() - 1).collect();
            for wrong in [
                "",
                PREFIX,
                &cut,
                &format!("{good}A"),
                &good.to_uppercase(),
                &Digest::of(good.as_bytes()).to_string(),
            ] {
                assert_eq!(whose(tokens, wrong), None, "{wrong}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_token_ends_at_its_expiry_and_one_cannot_be_made_expired() {
    let machine = Machine::new();
    machine
        .run(async |tokens| {
            let now = machine.clock.wall_millis();
            let expired = tokens
                .create(someone("alice"), Some(now))
                .await
                .unwrap_err();
            assert!(matches!(expired, CreateTokenError::Expired { expires } if expires == now));
            let short = tokens
                .create(someone("alice"), Some(now + 1_000))
                .await
                .unwrap();
            machine.clock.advance(Duration::from_millis(999));
            assert_eq!(whose(tokens, &short.token), Some(named("alice")));
            machine.clock.advance(Duration::from_millis(1));
            assert_eq!(whose(tokens, &short.token), None);
        })
        .await;
}

#[tokio::test]
async fn the_first_token_is_in_a_private_file_and_is_made_once() {
    let machine = Machine::new();
    let path = machine
        .run(async |tokens| {
            let path = tokens.ensure_first(&RealFs, &machine.secrets()).await;
            let path = path.unwrap().unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let text = std::fs::read_to_string(&path).unwrap();
            let caller = tokens.authenticate(text.trim_end()).unwrap();
            assert_eq!(caller.principal.as_str(), FIRST_PRINCIPAL);
            assert!(caller.is_admin());
            let id = tokens.list()[0].id.clone();
            tokens.revoke(&id).await.unwrap();
            path
        })
        .await;
    std::fs::remove_file(&path).unwrap();
    machine
        .run(async |tokens| {
            let again = tokens.ensure_first(&RealFs, &machine.secrets()).await;
            assert_eq!(
                again.unwrap(),
                None,
                "a revoked first token must not come back"
            );
            assert_eq!(tokens.list(), vec![]);
        })
        .await;
}

#[tokio::test]
async fn a_first_token_whose_file_fails_does_not_count_and_is_made_at_the_next_start() {
    let machine = Machine::new();
    machine
        .run(async |tokens| {
            let failing = FaultFs::dying(Arc::new(RealFs), 2);
            let error = tokens.ensure_first(&failing, &machine.secrets()).await;
            assert!(matches!(error, Err(FirstTokenError::Write { .. })));
            assert_eq!(tokens.list(), vec![]);
        })
        .await;
    machine
        .run(async |tokens| {
            let made = tokens.ensure_first(&RealFs, &machine.secrets()).await;
            assert!(made.unwrap().is_some());
        })
        .await;
}

#[tokio::test]
async fn the_secret_is_neither_in_the_state_directory_nor_in_debug_output() {
    let machine = Machine::new();
    let made = machine
        .run(async |tokens| tokens.create(someone("alice"), None).await.unwrap())
        .await;
    let secret = made.token.strip_prefix(PREFIX).unwrap();
    assert!(!format!("{made:?}").contains(secret));
    let mut left = vec![machine.folder.path().to_owned()];
    let mut files = 0;
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
    assert!(files > 0);
}

#[test]
fn tokens_of_layout_1_stay_those_of_administrators() {
    #[derive(serde::Serialize)]
    struct Layout1 {
        id: TokenId,
        hash: Digest,
        principal: Principal,
        created: i64,
        expires: Option<i64>,
    }
    let old = Layout1 {
        id: TokenId::random(),
        hash: Digest::of(b"token"),
        principal: "ann".parse().unwrap(),
        created: 5,
        expires: Some(9),
    };
    let read = TokenRecord::decode(1, &postcard::to_stdvec(&old).unwrap()).unwrap();
    assert_eq!(
        (&read.id, read.created, read.expires),
        (&old.id, 5, Some(9))
    );
    assert_eq!(read.groups, admins());
    let again = TokenRecord::decode(2, &postcard::to_stdvec(&read).unwrap()).unwrap();
    assert_eq!(again, read);
    assert!(TokenRecord::decode(3, &[]).is_err());
}

#[tokio::test]
async fn a_good_token_is_let_in_however_many_were_refused() {
    let machine = Machine::new();
    machine
        .run(async |tokens| {
            let alice = tokens.create(someone("alice"), None).await.unwrap().token;
            for _ in 0..MOST_REFUSALS {
                assert_eq!(tokens.authenticate("x"), Err(LoginError::Refused));
            }
            let refused = tokens.authenticate("x").unwrap_err();
            assert!(matches!(
                refused,
                LoginError::TooMany {
                    after_seconds: 1..=60
                }
            ));
            assert_eq!(whose(tokens, &alice), Some(named("alice")));
            machine.clock.advance(Duration::from_secs(60));
            assert_eq!(tokens.authenticate("x"), Err(LoginError::Refused));
        })
        .await;
}
