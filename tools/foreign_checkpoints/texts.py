"""What the checkpoints are asked to embed, and what their tokenizers are made from."""

# Each of them tells two readings of some checkpoint apart.
SENTENCES = (
    "A man is playing a guitar.",
    "A MAN IS PLAYING A GUITAR!",
    "Où est le café naïf de l'élève? Ça va, señor Müller.",
    # The same letters, decomposed.
    "Ou\u0300 est le cafe\u0301 nai\u0308f de l'e\u0301le\u0300ve?",
    "东京 is 東京都, 我喜欢音乐。",
    "don't, can't; (well) -- \"quoted\" 3.14% of $5,000!",
    "[CLS] hello [SEP] world [MASK] the [PAD] end [UNK]",
    "<s> hello </s> world <mask> the <pad> end <unk>",
    "I ❤️ music 🎸🎶 👩‍👩‍👧",
    "two  spaces   three\tand a tab\nand a line\u00a0end",
    "",
    "   a space before and after   ",
    "the the the the the the",
    "Rain fell all night over the old harbour town, and in the morning the children "
    "found their castle of sand gone; they built another one, larger than the first, "
    "with a deep moat, two gates and a red flag on top of the highest tower of all.",
    "ﬁne ① x² … ™ ﾊﾛｰ ½",
    "Straße in İstanbul, ΣΊΣΥΦΟΣ and Ωmega",
    "uncharacteristically misunderstandings",
    "is this wow!token or WOW!TOKEN or <new> or newish new things?",
    "zero\u200bwidth soft\u00adhyphen \ufffd \u0e44\u0e17\u0e22 \u0007bell",
    "x",
)

CORPUS = """
A man is playing a guitar. A woman is playing the violin. Two dogs run through the snow.
The committee rejected the proposal on Monday. She wrote a long letter to her brother.
The train to Lyon leaves at noon. Children build a castle of sand with a deep moat.
Rain fell all night over the old harbour town and in the morning the road was gone.
I don't know, you can't see it; they won't tell -- but "we've" heard 3.14 of 5,000!
Où est le café? L'élève naïf est déjà là, ça va. Señor Müller mag die Straße, größer.
ou est le cafe naif eleve ca va senor muller strasse istanbul omega sisyphus
Σίσυφος ΣΊΣΥΦΟΣ Ωmega ωmega İstanbul ıstanbul
东京 東京都 我喜欢音乐。 東京 音乐 我 喜欢 ﾊﾛｰ ハロー
Hello world, this is the end of the line. HELLO WORLD AND THE END: A MAN IS PLAYING.
Is this a token or a new thing? New things are newer; spaces before and after a tab.
I ❤️ music 🎸 🎶 and the guitar. query: how does it work? passage: it works like this.
uncharacteristically characters misunderstandings understanding standing
fine ﬁne ① x² … ™ ½ 1 2 3 4 5 6 7 8 9 0 $ % # @ & * + = / \\ ~ ^ | < > { } [ ] _ `
bell hyphen soft zero width three two the the of and with on top highest tower gates
"""
