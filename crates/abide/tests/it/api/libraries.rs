//! What matplotlib and pandas show, through the real libraries. `cargo xtask setup` installs them
//! below the target directory.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::http::Api;

/// A server whose Python has the libraries.
fn api() -> Api {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools");
    let python = tools.join("libraries/bin/python");
    assert!(
        python.exists(),
        "there are no libraries to test with: `cargo xtask setup` installs them"
    );
    Api::with(&[&format!("python={}", python.display())])
}

/// Width and height of a PNG in base64, which must be whole.
#[track_caller]
fn png_size(data: &Value) -> (u32, u32) {
    let png = STANDARD.decode(data.as_str().unwrap()).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{:?}", &png[..8]);
    assert_eq!(&png[12..16], b"IHDR");
    assert!(png.ends_with(b"IEND\xae\x42\x60\x82"), "it is cut off");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test]
async fn figures_are_shown_as_images() {
    let api = api();
    let path = api.session(json!({})).await;
    let code = "
import matplotlib.pyplot as plt
for width in (3, 6):
    figure, axes = plt.subplots(figsize=(width, 2))
    axes.plot([1, 4, 9, 16])
    axes.set_title('squares')
'drawn'";
    let step = api.run(&path, code).await;
    assert_eq!(step["status"], "completed", "{step}");
    assert_eq!(step["result"]["text"], "'drawn'");
    assert_eq!((&step["stdout"], &step["stderr"]), (&json!(""), &json!("")));
    let displays = step["result"]["displays"].as_array().unwrap();
    let sizes: Vec<_> = displays
        .iter()
        .map(|it| png_size(&it["image/png"]))
        .collect();
    assert_eq!(sizes.len(), 2);
    // About a hundred dots an inch, without what is empty around it.
    for ((width, height), inches) in sizes.into_iter().zip([3, 6]) {
        assert!((inches * 80..inches * 110).contains(&width), "{width}");
        assert!((160..220).contains(&height), "{height}");
    }
    let plain = displays[0]["text/plain"].as_str().unwrap();
    assert!(plain.starts_with("<Figure size 300x200"), "{plain}");

    // Each once; `show` is harmless; the old one can be shown again.
    let next = api.run(&path, "plt.get_fignums()").await;
    assert_eq!(next["result"]["text"], "[]");
    assert_eq!(next["result"]["displays"], Value::Null, "{next}");
    let shown = api.run(&path, "_ = plt.hist([1, 1, 2])\nplt.show()").await;
    let displays = shown["result"]["displays"].as_array().unwrap();
    assert_eq!(displays.len(), 1, "{shown}");
    png_size(&displays[0]["image/png"]);
    assert_eq!(shown["stderr"], "", "no word about a missing screen");
}

#[tokio::test]
async fn frames_are_shown_as_tables() {
    let api = api();
    let path = api.session(json!({})).await;
    let code = "
import pandas as pd
frame = pd.DataFrame({'name': ['Ann', '<Bob>'], 'n': [1, 2.5]})
frame";
    let step = api.run(&path, code).await;
    assert_eq!(step["status"], "completed", "{step}");
    let text = step["result"]["text"].as_str().unwrap();
    assert!(text.contains("Ann") && text.contains("2.5"), "{text}");
    let html = step["result"]["data"]["text/html"].as_str().unwrap();
    assert!(html.contains("<table"), "{html}");
    assert!(html.contains("<td>Ann</td>") && html.contains("&lt;Bob&gt;"));
    assert!(html.contains("<td>2.5</td>") && html.contains("</table>"));

    // Shown on the way, and of many rows.
    let code = "display(frame)\npd.DataFrame({'n': range(100_000)})";
    let step = api.run(&path, code).await;
    let display = &step["result"]["displays"][0];
    assert!(display["text/html"].as_str().unwrap().contains("<table"));
    let html = step["result"]["data"]["text/html"].as_str().unwrap();
    assert!(html.contains("<p>100000 rows"), "{html}");
}
