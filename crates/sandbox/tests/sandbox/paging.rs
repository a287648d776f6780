//! Pages of lists.

use crate::support::start;
use serde_json::json;

#[tokio::test]
async fn a_cursor_leads_through_the_list_and_fits_no_other() {
    let running = start().await;
    let mut url = "https://acme.vendor.test/v1/users?limit=5&filter[x]=1".to_owned();
    let mut ids = Vec::new();
    for page in 0..3 {
        let answer = running.get(&url, "reader-token").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        ids.extend(answer.json["users"].as_array().unwrap().iter().map(|user| user["id"].as_u64().unwrap()));
        assert_eq!(answer.json["total"], 12);
        let link = answer.header("link");
        match link.strip_prefix('<').and_then(|link| link.split_once('>')) {
            Some((next, relation)) => {
                assert_eq!(relation, "; rel=\"next\"");
                // The other parameters stay.
                assert!(next.starts_with("https://acme.vendor.test/v1/users?limit=5&filter"), "{next}");
                url = next.to_owned();
            }
            None => assert_eq!((page, answer.json.get("next")), (2, None)),
        }
    }
    assert_eq!(ids, (1001..=1012).collect::<Vec<u64>>());

    let first = running.get("https://acme.vendor.test/v1/users?limit=5", "reader-token").await;
    let cursor = first.json["next"].as_str().unwrap().to_owned();
    let answer = running.get(&format!("https://other.vendor.test/v1/users?after={cursor}"), "other-token").await;
    assert_eq!(answer.error(), "bad_cursor");
    for wrong in ["5", "AAAAAAAAAAUAAAAAAAAAAA", &format!("{cursor}A")] {
        let answer = running.get(&format!("https://acme.vendor.test/v1/users?after={wrong}"), "reader-token").await;
        assert_eq!((answer.status, answer.error()), (400, "bad_cursor"), "{wrong}");
    }
}

#[tokio::test]
async fn sizes_are_bounded() {
    let running = start().await;
    let size = async |query: &str| {
        let answer = running.get(&format!("https://acme.vendor.test/v1/users{query}"), "reader-token").await;
        (answer.status, answer.json["users"].as_array().map(Vec::len), answer.error().to_owned())
    };
    assert_eq!(size("").await, (200, Some(10), String::new()));
    assert_eq!(size("?limit=3").await, (200, Some(3), String::new()));
    assert_eq!(size("?limit=0").await, (200, Some(10), String::new()));
    assert_eq!(size("?limit=x").await, (200, Some(10), String::new()));
    assert_eq!(size("?limit=21").await, (400, None, "over_max".to_owned()));
    // Without over_max, more than the maximum is cut.
    let cut = running.get("https://acme.vendor.test/v1/pages?size=500", "reader-token").await;
    assert_eq!(cut.json["ids"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn pages_and_offsets_are_counted() {
    let running = start().await;
    let get = async |path: &str| running.get(&format!("https://acme.vendor.test{path}"), "reader-token").await;
    assert_eq!(get("/v1/pages").await.json, json!({"ids": [1001, 1002, 1003, 1004, 1005], "next": 2, "pages": 3}));
    assert_eq!(get("/v1/pages?page=3").await.json, json!({"ids": [1011, 1012], "pages": 3}));
    assert_eq!(get("/v1/pages?page=99").await.json["ids"], json!([]));
    assert_eq!(get("/v1/pages?page=18446744073709551615&size=10").await.json["ids"], json!([]));
    assert_eq!(get("/v1/offsets?start=10").await.json, json!({"ids": [1011, 1012]}));
    assert_eq!(get("/v1/offsets?start=-1").await.error(), "bad_cursor");
    let picked = get("/v1/users?limit=1&fields=id").await;
    assert_eq!(picked.json["users"], json!([{"id": 1001}]));
}
