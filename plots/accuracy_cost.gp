# Test accuracy against a cost: one point per row, the Pareto front as steps, the majority class as a dashed line.
# Blocks 0..N-1: x, y, ends of the bars in x and in y. Block N: the front.
set xlabel XLABEL textcolor rgb INK
set ylabel 'Test accuracy (%)' textcolor rgb INK
set xrange [0:XHIGH]
set yrange [YLOW:YHIGH]
set grid xtics ytics
set pointsize 1.7*POINTS
if (SHARE >= 0) set arrow 1 from graph 0, first SHARE to graph 1, first SHARE nohead linecolor rgb INK dashtype 3 linewidth 1
if (SHARE >= 0) set label 1 'most frequent class' at graph 0.98, first SHARE right offset 0,0.6 textcolor rgb INK
plot DATA index N using 1:2 with steps linecolor rgb FAINT linewidth 2.5 notitle, \
     for [i=1:N] DATA index i-1 using 1:2:3:4:5:6 with xyerrorbars linecolor rgb COLOUR[i] linewidth 1 pointtype 0 notitle, \
     for [i=1:N] DATA index i-1 using 1:2 with points linecolor rgb COLOUR[i] pointtype POINT[i] notitle
