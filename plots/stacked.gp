# Shared by the stacked bars: bands of height 1 with labels on the left, the first on top, the key below.
set lmargin at screen (WIDEST * 9.5 + 20) / W
set rmargin at screen 0.98
set border 1
set ytics (LABEL[1] 1)
set for [i=2:N] ytics add (LABEL[i] i)
set ytics scale 0 textcolor rgb INK
set yrange [N+0.6:0.4]
set xrange [0:XHIGH]
set grid xtics noytics
