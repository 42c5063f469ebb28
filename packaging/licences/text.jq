# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes THIRD-PARTY.txt of cargo-about's JSON. $shipped is the output of packaging/licences/shipped.

($shipped | rtrimstr("\n") | split("\n")) as $lines
| ($lines | map(split(" ")[:2] | join(" "))) as $crates
| [ .licenses[]
    | {id, text, crates: ([.used_by[].crate | "\(.name) \(.version)"] | unique | map(select(IN($crates[]))))}
    | select(.crates != [])
  ]
| group_by([.id, .text])
| map({id: .[0].id, text: .[0].text, crates: (map(.crates[]) | unique)})
| sort_by([.id, .crates[0], .text]) as $texts
| ($crates - [$texts[].crates[]]) as $without
| if $without != [] then error("no licence text for \($without | join(", "))") else . end
| "SOFTWARE OF OTHERS

The programs and modules of mytokens for ssh and Slurm contain the crates in this
list, each with its licence, and Rust's standard library (MIT OR Apache-2.0,
https://doc.rust-lang.org). Sources: https://crates.io/crates/NAME/VERSION.
The texts of the licences follow. Of several licences that a crate offers, the
text is that of the one under which it is used here.

CRATES

\($lines | join("\n"))

LICENCES
",
($texts[]
    | "
--------------------------------------------------------------------------------
\(.id), of \(.crates | join(", ")):

\(.text | gsub("\r"; "") | gsub("[ \t]+\n"; "\n") | sub("^\n+"; "") | sub("\\s+$"; ""))")
