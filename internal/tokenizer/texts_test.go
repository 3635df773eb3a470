package tokenizer

import (
	"math/rand/v2"
	"strings"
)

// handMade are texts that people write, in many scripts, and the places where tokenizers are known to differ.
func handMade() []string {
	return []string{
		"", " ", "  ", "\n", "\t", "\r\n", "a", " a", "a ", " a ", "The quick brown fox jumps over the lazy dog.",
		"In a galaxy far far away", "def fibonacci(n):", "Once upon a time, there was a little girl named Lily.",
		"I'm you're he's we've they'd I'll can't O'Brien's 'sad 'SAD I'M YOU'RE HE'S WE'VE THEY'D I'LL CAN'T 'ſ 'ſt ’s",
		"'' 's' ''s '''ve ' s 'l 'll 'v 'r 'rex 'LL '\u017f", "1 12 123 1234 12345 1234567890 3.14159 1e-9 0x1F ١٢٣ ४५६ ²³¹ ½ Ⅷ ①② 一二三 〇",
		"func main() {\n\tif x {\n\t\tfmt.Println(\"hi\")\n\t}\n}\n", "\t\t}", "\t\t\t}\n\t\t}\n\t}\n}", "for i in range(10):\n    print(i)\n\n\n    # done\n",
		"a\n\nb", "a\n \nb", "a \n b", "a\r\nb\r\n\r\nc", "a\n\n\n   b", "a   \n\n  \t b", "   leading", "trailing   ", "a\u00a0b", "a\u3000b", "a\u2028b\u2029c", "a\u0085b", "\u1680x", "\u200bzero\u200dwidth\ufeff",
		"…!?#$%&*()[]{}<>/\\|~`^_+-=;:,.\"'", "!!!???", "--- ... ___", " - a -b - ", "http://example.com/a?b=c&d=%20#e", "user@example.com",
		"Ünïcödé ñandú façade naïve Straße", "U\u0308ni\u0308co\u0308de\u0301 decomposed", "e\u0301\u0323 e\u0323\u0301 \u1e69 s\u0323\u0307 \u212b \u00c5",
		"Привет, мир! Съешь же ещё этих мягких французских булок", "Γειά σου Κόσμε ΑΒΓ ς", "שלום עולם נִקּוּד", "مرحبا بالعالم ٱلسَّلَامُ", "नमस्ते दुनिया क्षत्रिय", "হ্যালো বিশ্ব", "வணக்கம் உலகம்", "ਸਤ ਸ੍ਰੀ ਅਕਾਲ", "สวัสดีชาวโลก", "ສະບາຍດີ", "မင်္ဂလာပါ", "សួស្តី", "བཀྲ་ཤིས་བདེ་ལེགས།",
		"你好,世界!", "今日は世界。カタカナ ひらがな ガギグ カ\u3099", "안녕하세요 세계", "\u1112\u1161\u11ab\u1100\u1173\u11af", "ጤና ይስጥልኝ", "გამარჯობა", "Բարեւ", "ᐊᐃᓐᖓᐃ", "ᚠᚢᚦᚨᚱᚲ", "𐍈𐌰𐌹", "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛", "𓀀𓁐", "𠮷野家 𪚥",
		"😀😃😄", "👨‍👩‍👧‍👦", "👩🏽‍💻", "🏳️‍🌈", "🇩🇪🇫🇷🇯🇵", "1️⃣2️⃣", "❤️", "🤷🏾‍♂️ shrug", "☕☔⛄", "\U0001F9D1\u200D\U0001F680",
		"a\u0300\u0301\u0302\u0303\u0304\u0305\u0306", "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033da\u030d\u0348l\u0342\u0353g\u0317o\u0312", "\u0301 alone", "\u0344 \u0958 \u2126 \uf900 \ufb01 ﬆ ㎏ ℵ ㍿",
		"\x00\x01\x02\x1f\x7f", "\u0080\u009f\u00ad", "\ufffd\ufffe\uffff", "\U0010ffff\ue000", "\u202eright to left\u202c",
		"<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", "<|im_start|", "|im_end|>", "<<|im_end|>>", "<|im_end|><|im_end|> <|im_end|>", "<s>hi</s>", "<s> hi </s>", "<unk> <pad>", "[INST] hi [/INST]", "<0x41><0x0A>", "▁a▁▁b ▁ c", "ĠaĊb Âł", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
		"camelCaseXMLHttpRequest snake_case SCREAMING_CASE kebab-case", "aAaA aaAAaa AAAaaa", "x=1;y=2", "A.B.C. U.S.A.", "100,000,000.00 $5 €10 50%",
		strings.Repeat("a", 1000), strings.Repeat(" ", 300), strings.Repeat("\n", 300), strings.Repeat(" \n", 100), strings.Repeat("ab", 700), strings.Repeat("1", 500), strings.Repeat("😀", 200), strings.Repeat("é", 500), strings.Repeat("e\u0301", 300), "e" + strings.Repeat("\u0301", 100), "a" + strings.Repeat("\u0323\u0301", 60) + "b", strings.Repeat("\u1161", 80), strings.Repeat("!", 400), strings.Repeat("the cat ", 200), strings.Repeat("\t", 120) + "x",
	}
}

// oddTexts put every pair of these pieces side by side.
func oddTexts() []string {
	pieces := []string{" ", "  ", "\n", "\r", "\t", "\u00a0", "\u3000", "a", "É", "中", "1", "٣", "½", ".", "'", "'s", "😀", "\u0301", "\u200d", "\x00", "▁", "_", "\u2028", "<s>"}
	var out []string
	for _, a := range pieces {
		for _, b := range pieces {
			out = append(out, a+b, "x"+a+b+"y")
		}
	}
	return out
}

// blocks are ranges of characters that random texts draw from.
var blocks = [][2]rune{
	{0x20, 0x7E}, {0x20, 0x7E}, {0, 0x20}, {0x80, 0xFF}, {0x100, 0x24F}, {0x250, 0x2FF}, {0x300, 0x36F}, {0x370, 0x3FF}, {0x400, 0x52F}, {0x530, 0x5FF}, {0x600, 0x6FF},
	{0x700, 0x8FF}, {0x900, 0x97F}, {0x980, 0xDFF}, {0xE00, 0xEFF}, {0xF00, 0xFFF}, {0x1000, 0x109F}, {0x10A0, 0x11FF}, {0x1200, 0x139F}, {0x13A0, 0x16FF},
	{0x1700, 0x1AFF}, {0x1B00, 0x1CFF}, {0x1D00, 0x1EFF}, {0x1F00, 0x1FFF}, {0x2000, 0x206F}, {0x2070, 0x218F}, {0x2190, 0x23FF}, {0x2460, 0x27BF}, {0x2C00, 0x2FFF},
	{0x3000, 0x30FF}, {0x3130, 0x33FF}, {0x4E00, 0x9FFF}, {0xA000, 0xA8FF}, {0xA900, 0xABFF}, {0xAC00, 0xD7FF}, {0xE000, 0xE0FF}, {0xF900, 0xFAFF}, {0xFB00, 0xFDFF},
	{0xFE00, 0xFFFF}, {0x10000, 0x107FF}, {0x10800, 0x10FFF}, {0x11000, 0x11FFF}, {0x12000, 0x143FF}, {0x16000, 0x18FFF}, {0x1B000, 0x1B2FF}, {0x1CC00, 0x1D7FF}, {0x1DF00, 0x1EFFF},
	{0x1F000, 0x1FBFF}, {0x20000, 0x323AF}, {0xE0000, 0xE01FF}, {0x10FF00, 0x10FFFF},
}

func randomRune(rng *rand.Rand, block [2]rune) rune {
	for {
		if r := block[0] + rng.Int32N(block[1]-block[0]+1); r < 0xD800 || r > 0xDFFF {
			return r
		}
	}
}

// randomText is words of one to three blocks with blanks, line ends and digits between.
func randomText(rng *rand.Rand) string {
	var b strings.Builder
	mine := [][2]rune{blocks[rng.IntN(len(blocks))], blocks[rng.IntN(len(blocks))], blocks[rng.IntN(3)]}
	for range 1 + rng.IntN(12) {
		block := mine[rng.IntN(len(mine))]
		for range 1 + rng.IntN(9) {
			b.WriteRune(randomRune(rng, block))
		}
		b.WriteString([]string{" ", " ", " ", "", "\n", "  ", "\t", ", ", "'", "\r\n", "\u00a0", "42"}[rng.IntN(12)])
	}
	return b.String()
}

// randomCode is lines of something like a program.
func randomCode(rng *rand.Rand) string {
	words := []string{"if", "for", "x", "foo_bar", "HTTPServer", "return", "0x1F", "3.14", "==", "!=", "&&", "(", ")", "{", "}", "[", "]", ";", "//", "#", "\"s\"", "'c'", "->", "::", "don't", "i", "+= 1", "\\n"}
	var b strings.Builder
	for range 1 + rng.IntN(8) {
		b.WriteString(strings.Repeat([]string{"\t", " ", "  ", "    "}[rng.IntN(4)], rng.IntN(6)))
		for range rng.IntN(7) {
			b.WriteString(words[rng.IntN(len(words))])
			b.WriteString([]string{" ", " ", "", "  ", "\t"}[rng.IntN(5)])
		}
		b.WriteString([]string{"\n", "\n", "\n\n", "\r\n", " \n", "\n\t\n"}[rng.IntN(6)])
	}
	return b.String()
}

// randomMix is special tokens, whole and broken, between short texts.
func randomMix(rng *rand.Rand, specials []string) string {
	var b strings.Builder
	for range 1 + rng.IntN(8) {
		if s := specials[rng.IntN(len(specials))]; rng.IntN(2) == 0 {
			b.WriteString(s)
		} else if rng.IntN(3) == 0 {
			b.WriteString(s[:rng.IntN(len(s))])
		}
		b.WriteString([]string{"", " ", "  ", "\n", "user\n", "Hello", "é", "🤖", "<", "|", ">", "a1", " _ "}[rng.IntN(13)])
	}
	return strings.ToValidUTF8(b.String(), "")
}

// largeText is at least size bytes of all kinds: more words than a cache holds, and long runs without a blank.
func largeText(rng *rand.Rand, size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(benchWords(rng) + randomText(rng) + randomCode(rng))
		if rng.IntN(4) == 0 {
			b.WriteString(strings.ReplaceAll(benchWords(rng), " ", ""))
		}
	}
	return b.String()
}
