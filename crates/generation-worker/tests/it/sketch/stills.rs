//! Stills: PNG files in the asked size.

use serde_json::json;

use super::pictures;
use super::{draw, draw_with};

/// Width, height, and red, green and blue of each pixel.
fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    (info.width, info.height, pixels)
}

#[test]
fn a_still_has_the_size_that_was_asked_for() {
    for (input, size) in [
        (json!({}), (640, 360)),
        (json!({"resolution": "1080p", "aspect_ratio": "21:9"}), (2520, 1080)),
        (json!({"resolution": "144p"}), (256, 144)),
        (json!({"aspect_ratio": "9:16", "resolution": "360p"}), (360, 640)),
        (json!({"size": "513x401"}), (513, 401)),
        (json!({"size": "64x2048"}), (64, 2048)),
        (json!({"size": {"width": 64, "height": 64}}), (64, 64)),
        (json!({"size": {"width": 1024.0, "height": 640}, "references": ["a", "b", "c", "d"]}), (1024, 640)),
        (json!({"size": "64x65", "references": ["a", "b", "c", "d"], "negative_prompt": "x"}), (64, 65)),
    ] {
        let mut input = input;
        input["kind"] = "image".into();
        let output = draw(input.clone()).remove(0);
        assert_eq!((output.extension, output.mime_type), ("png", "image/png"));
        let (width, height, pixels) = decode(&output.bytes);
        assert_eq!((width, height), size, "{input}");
        // It is lit, and it has colours.
        let mean = pixels.iter().map(|part| f64::from(*part)).sum::<f64>() / pixels.len() as f64;
        assert!(mean > 30.0, "{input}: {mean}");
        let colourful = pixels.chunks(3).filter(|p| p[0].abs_diff(p[1]).max(p[1].abs_diff(p[2])) > 20).count();
        assert!(colourful > pixels.len() / 10, "{input}: {colourful}");
    }
}

#[test]
fn stills_are_takes_too_and_follow_from_prompt_seed_and_references() {
    let still = |more: serde_json::Value| {
        let mut input = json!({"kind": "image", "resolution": "240p"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        draw(input)
    };
    let takes = still(json!({"seed": 1, "outputs": 4}));
    assert_eq!(takes.len(), 4);
    assert_eq!(takes[3], still(json!({"seed": 4}))[0]);
    assert!(takes[0] != takes[3]);
    assert!(still(json!({"prompt": "Dunes"})) != still(json!({"prompt": "Hills"})));
    let red = pictures::png(8, 8, png::ColorType::Rgb, &[200, 40, 40].repeat(64));
    let input = json!({"kind": "image", "resolution": "240p", "references": [null]});
    let with = draw_with(input, &[("/references/0".to_owned(), red)].into()).remove(0);
    let (width, _, pixels) = decode(&with.bytes);
    // In the middle of the first card.
    let at = (60 * width as usize + 56) * 3;
    let far = pixels[at..at + 3].iter().zip([200, 40, 40]).map(|(seen, wanted)| seen.abs_diff(wanted)).max().unwrap();
    assert!(far < 6, "{:?}", &pixels[at..at + 3]);
}
