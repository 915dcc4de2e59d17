# Validation loss against learning rate, one block per row: rate, loss. The last block: the chosen values (row, rate, loss); an
# open circle around one says that it is the edge of what was tried.
set xlabel 'Learning rate' textcolor rgb INK
set ylabel 'Validation NLL (nats)' textcolor rgb INK
set logscale x
set xrange [XLOW:XHIGH]
set yrange [YLOW:YHIGH]
set format x '%.0e'
set grid xtics ytics
set pointsize 1.0*POINTS
plot for [i=1:N] DATA index i-1 using 1:2 with linespoints linecolor rgb COLOUR[i] linewidth 1.6 pointtype POINT[i] notitle, \
     DATA index N using 1:2:($3*2.6*POINTS):4 with points pointtype 6 pointsize variable linecolor rgb variable linewidth 1.6 notitle
