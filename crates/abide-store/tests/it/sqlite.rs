//! The conformance suite on SQLite.

use crate::conformance;
use crate::fixtures::TestStore;

macro_rules! on_sqlite {
    ($($module:ident: $($test:ident),+;)+) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $test() {
                let test = super::TestStore::new();
                super::conformance::$module::$test(&test.store).await;
                test.store.close().await;
            })+
        })+
    };
}

conformance::for_each_conformance_test!(on_sqlite);
