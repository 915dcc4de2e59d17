# Shared by all figures; loaded before each template. The driver sets W, H, DATA, TITLE, VECTOR, the legend (NKEY, KEY,
# KEYCOLOUR, KEYPOINT, KEYROWS, KEYSTEP in pixels) and the figure's own variables. The legend is placed here and not by
# gnuplot's key, whose columns depend on a guess of text widths that is wrong for svg.
reset
POINTS = VECTOR ? 0.55 : 1
INK = '#33383d'
FAINT = '#c8ccd0'
set datafile separator "\t"
set datafile missing "nan"
set border 3 linecolor rgb INK linewidth 1
set tics nomirror out textcolor rgb INK
set format '%g'
set grid linecolor rgb FAINT linewidth 0.6 dashtype solid
set grid noxtics ytics
set title TITLE textcolor rgb INK offset 0,-0.2
set xlabel offset 0,(VECTOR ? 0.65 : 0.2)
unset key
set style fill solid 1.0 noborder
KEYHEIGHT = NKEY ? 25.0 * KEYROWS + 8 : 0
set bmargin at screen (KEYHEIGHT + 76.0) / H
set tmargin at screen 1 - 48.0 / H
KEYLEFT = (W - KEYSTEP * ceil(1.0 * NKEY / KEYROWS)) / 2.0 + 14
do for [k=1:NKEY] {
    set label 100+k KEY[k] at screen (KEYLEFT + KEYSTEP * int((k - 1) / KEYROWS)) / W, \
        screen (KEYHEIGHT - 25.0 * ((k - 1) % KEYROWS) - 14) / H left offset 1.4,(VECTOR ? -0.22 : -0.15) textcolor rgb INK \
        point pointtype KEYPOINT[k] pointsize 1.4*POINTS linecolor rgb KEYCOLOUR[k]
}
