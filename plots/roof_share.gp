# Share of the roof, one bar a kernel. Blocks: a roof that binds each, then the numbers, in a column at the right.
load substr(TEMPLATE, 1, strlen(TEMPLATE)-strlen('roof_share.gp')) . 'stacked.gp'
set rmargin at screen 1 - 70.0 / W
set xlabel 'Share of the roof (%)' textcolor rgb INK
set arrow 1 from 80, graph 0 to 80, graph 1 nohead linecolor rgb '#8a9096' linewidth 1 dashtype 2 back
plot for [i=1:3] DATA index i-1 using 1:2:3:4:5:6 with boxxyerror linecolor rgb KEYCOLOUR[i] notitle, \
     DATA index 3 using (XHIGH):1:2 with labels left offset 0.6,0 textcolor rgb INK notitle
